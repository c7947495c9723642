import pg from 'pg';
import { plainUrl } from '../db/citus/placement.js';
import { startEmbeddedPostgres } from '../db/embedded.js';
import { assertInSchema, inSchema } from '../db/ledgerSchema.js';
import { assertMigrated, assertSetUp, migrate } from '../db/migrate.js';
import { createPool } from '../db/pool.js';
import { isLockConflict, sqlStateOf } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { Ledger, LedgerOptions } from '../ledgerTypes.js';
import type { Accounts } from '../shards/accounts.js';
import type { ShardedLedgerOptions } from '../shards/shardedLedger.js';
import type { CommandContext, CommandStatus, ShardContext } from './context.js';
import { requireCluster, requireDataDir } from './dataDir.js';
import type { Environment } from './environment.js';
import { placeOf } from './otherDatabase.js';
import { toCommandError } from './output.js';

/** The database of a command, migrated. */
export interface CommandDatabase {
  /** With `viaPooler`: for what opens connections of its own. */
  url: string;
  /** The URL is that of a pooler in transaction mode. */
  viaPooler: boolean;
  /** The data directory of an embedded server; null with DATABASE_URL. */
  embeddedDir: string | null;
  /** A few connections, opened at first use. */
  pool(): pg.Pool;
  /** A ledger, opened at first use. No background fold: this is not a server. */
  ledger(options?: Partial<LedgerOptions>): Promise<Ledger>;
  /** For what is done to accounts: the pool, and over shards whatever has them all. */
  accounts(): Promise<Accounts>;
  /** A connection of its own, without time limits, for one long statement. */
  client(): Promise<pg.Client>;
  close(): Promise<void>;
}

/**
 * DATABASE_URL, or the embedded server of the data directory, shared when it runs already. A signal
 * while it starts leaves none behind.
 * @param isMade a directory without a cluster gets one, as for `migrate`
 * @throws LedgerError `unavailable`
 */
export async function openServer(
  { environment, interruption }: Pick<CommandContext, 'environment' | 'interruption'>,
  { isMade = false } = {},
): Promise<{ url: string; embeddedDir: string | null; stop(): Promise<void> }> {
  if (environment.databaseUrl !== null) {
    return { url: environment.databaseUrl, embeddedDir: null, stop: async () => {} };
  }
  const { dataDir } = environment;
  if (!isMade) await requireCluster(dataDir);
  const takeBack = await requireDataDir(dataDir);
  try {
    const server = await interruption.guard(() => startEmbeddedPostgres({ dataDir }));
    const url = inSchema(server.url, environment.schema);
    return { url, embeddedDir: dataDir, stop: () => server.stop() };
  } catch (error) {
    await takeBack();
    throw error;
  }
}

/** Brings the schema up to date, as the role that owns it. */
export async function migrateDatabase(environment: Environment, url: string) {
  // The owner's role belongs to the database of DATABASE_URL, not to an embedded one.
  const isOwn = environment.databaseUrl !== null;
  const migrationUrl = isOwn ? (environment.migrationUrl ?? url) : url;
  // A pooler would hand the lock of the session that migrates to somebody else.
  if (isOwn && environment.pooler !== null && environment.migrationUrl === null) {
    return { applied: [] };
  }
  try {
    // Adopting somebody's own tables is for `migrate` alone: it shows first what it would do.
    return await migrate(migrationUrl, { adopt: false });
  } catch (error) {
    throw isContended(error) ? error : describeFailure(error, migrationUrl);
  }
}

/** A table in use: the message says who holds it, and DATABASE_URL is not to blame. */
export function isContended(error: unknown): boolean {
  return error instanceof LedgerError && isLockConflict(error.cause);
}

/** Details of errors that name their remedy: the server answers, and DATABASE_URL is not to blame. */
const REMEDIES = ['missing_migrations', 'adoptable', 'distributed', 'system_error', 'shard'];

/** Names the host that does not answer, and what to check; never the password. */
export function describeFailure(
  error: unknown,
  url: string,
  urlsFrom = 'DATABASE_URL',
): LedgerError {
  const ledgerError = toCommandError(error);
  if (REMEDIES.some((detail) => detail in ledgerError.details)) return ledgerError;
  const state = ledgerError.details.sqlstate ?? sqlStateOf(ledgerError.cause ?? error);
  const isRefused = typeof state === 'string' && /^(28|3D)/.test(state);
  const isAway = ledgerError.code === 'unavailable' && 'sqlstate' in ledgerError.details;
  if (!isAway && !isRefused) return ledgerError;
  return new LedgerError(
    'unavailable',
    `cannot use the database at ${placeOf(url)}: ${ledgerError.message}; check ${urlsFrom} ` +
      'and that the server accepts connections',
    { details: { ...ledgerError.details }, cause: error },
  );
}

/**
 * Runs a command's work on its database, closed after, however it ends. There must be a ledger: a name that
 * is mistyped must not get one. It is brought up to date before; with `isMigrated`, for commands that
 * only read, one of DATABASE_URL must be.
 */
export async function withDatabase(
  { environment, interruption, shard }: CommandContext,
  work: (database: CommandDatabase) => Promise<CommandStatus>,
  { isMigrated = false } = {},
): Promise<CommandStatus> {
  const server = await openServer({ environment, interruption });
  const database = openDatabase(environment, server, shard);
  try {
    return await interruption.guard<CommandStatus>(async () => {
      // Shards are brought up to date by `migrate` alone, all of them, and joined.
      const mustBe = (isMigrated || shard !== null) && environment.databaseUrl !== null;
      const described = (error: unknown) => {
        throw describeFailure(error, server.url, urlsFrom(shard));
      };
      const assertThere = mustBe ? assertMigrated : assertSetUp;
      await assertInSchema(database.pool(), environment.schema)
        .then(() => assertThere(database.pool()))
        .catch(described);
      if (!mustBe) await migrateDatabase(environment, server.url);
      return await work(database).catch(described);
    });
  } finally {
    const closing = database.close();
    // What was abandoned may keep its connection: the process ends without it.
    if (interruption.isAbandoned) closing.catch(() => {});
    else await closing;
    await server.stop();
  }
}

/** What an operator looks at when the database cannot be used. */
export const urlsFrom = (shard: ShardContext | null): string =>
  shard === null ? 'DATABASE_URL' : 'the shards file';

/** For commands that only read: they bring no database of DATABASE_URL up to date. */
export function withMigratedDatabase(
  context: CommandContext,
  work: (database: CommandDatabase) => Promise<CommandStatus>,
): Promise<CommandStatus> {
  return withDatabase(context, work, { isMigrated: true });
}

// Half of what a command would load, and many need none.
const openLedger = async (options: LedgerOptions) =>
  (await import('../ledger.js')).createLedger(options);
const openShardedLedger = async (options: ShardedLedgerOptions) =>
  (await import('../shards/shardedLedger.js')).createShardedLedger(options);

function openDatabase(
  environment: Environment,
  server: { url: string; embeddedDir: string | null },
  shard: ShardContext | null,
): CommandDatabase {
  const viaPooler = environment.databaseUrl !== null && environment.pooler !== null;
  let pool: pg.Pool | null = null;
  let ledger: Promise<Ledger> | null = null;
  const clients: pg.Client[] = [];
  const database: CommandDatabase = {
    url: server.url,
    viaPooler,
    embeddedDir: server.embeddedDir,
    pool() {
      pool ??= createPool({
        url: server.url,
        size: 4,
        applicationName: 'microdollar command',
        lockTimeoutMs: 10_000,
        statementTimeoutMs: 60_000,
        viaPooler,
      });
      return pool;
    },
    ledger(options = {}) {
      const shared = {
        backgroundFold: false,
        allowPrivateWebhooks: environment.allowsPrivateWebhooks,
        preparedStatements: !viaPooler,
        ...options,
      };
      ledger ??=
        shard?.all != null
          ? openShardedLedger({ ...shared, shards: shard.all })
          : openLedger({
              ...shared,
              databaseUrl: server.url,
              ...(environment.replicaUrl === null ? {} : { replicaUrl: environment.replicaUrl }),
              schema: environment.schema ?? undefined,
            });
      return ledger;
    },
    async accounts() {
      if (shard?.all != null) return await database.ledger();
      return shard?.accounts ?? database.pool();
    },
    async client() {
      const client = new pg.Client({
        connectionString: await plainUrl(server.url),
        application_name: 'microdollar command',
        connectionTimeoutMillis: 10_000,
        keepAlive: true,
      });
      client.on('error', () => {});
      clients.push(client);
      await client.connect();
      return client;
    },
    async close() {
      await Promise.allSettled(clients.map((client) => client.end()));
      await ledger?.then((opened) => opened.close()).catch(() => {});
      await pool?.end();
    },
  };
  return database;
}
