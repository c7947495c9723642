import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { migrateOnCitus } from './citus/distribute.js';
import { citusPlaceOf } from './citus/placedUrl.js';
import { inSchema } from './ledgerSchema.js';
import { adopt, findOnlineWork, type OnlineWork } from './migrate/adopt.js';
import { applyMigrations } from './migrate/applyMigrations.js';
import { connectToMigrate, explainFailure, underLock } from './migrate/connection.js';
import { countsForeignRows, DOUBLE_COUNT_WARNING, planForeignRows } from './migrate/foreignRows.js';
import { isKnownCluster, planGeneration } from './migrate/generation.js';
import { assertUsable, findUnapplied, type Queryable, readJournal } from './migrate/journal.js';
import { keepPartitions } from './migrate/partitions/keepPartitions.js';
import { type RunOptions, runSteps, type StepProgress } from './migrate/runSteps.js';
import {
  dropForeignKey,
  findWaitingForeignKeys,
  warnOfForeignKeys,
} from './migrate/waitingForeignKeys.js';
import { isNotPermitted } from './sqlstate.js';

export { countsForeignRows } from './migrate/foreignRows.js';
export { isKnownCluster, UNKNOWN_CLUSTER } from './migrate/generation.js';
export { assertMigrated, assertSetUp } from './migrate/journal.js';
export { type MigrationPlan, planMigration } from './migrate/planMigration.js';
export type { StepProgress } from './migrate/runSteps.js';
export type { Step } from './migrate/step.js';

export interface MigrateOptions {
  /** Where the ledger lives, or is to live: made where it is absent. Default `public`. */
  schema?: string | undefined;
  /**
   * For one DDL lock; what waits behind the DDL waits no longer than this. Default 5,000 ms; where the
   * ledger, or another program, is at work already 500 ms, below the server's deadlock timeout: rather
   * us than a reader or a writer.
   */
  lockTimeoutMs?: number | undefined;
  /** For another process that is migrating. Default 600,000 ms. */
  waitTimeoutMs?: number | undefined;
  /** Tries after a lock timeout or deadlock. Default 10; beside others 30, online of each step. */
  attempts?: number | undefined;
  /**
   * Adopt a database that has tables of its own, and prepare partitions of the months ahead. Default
   * true; false: refuse with the remedy, and prepare none.
   */
  adopt?: boolean | undefined;
  /** Drop foreign keys that make usage writes wait. Default false: warn of them. */
  dropForeignKeys?: boolean | undefined;
  /**
   * Whether usage rows that other programs insert are counted at once (R7). Default: left as it
   * is, which after installing is off.
   */
  countForeignRows?: boolean | undefined;
  /** Partition the log by month of its ids. Default false: only months of one that is so already. */
  partitionById?: boolean | undefined;
  log?: ((message: string) => void) | undefined;
  /** Before each step, awaited; and twice a second while an index is built. */
  onStep?: ((progress: StepProgress) => void | Promise<void>) | undefined;
}

export interface MigrateResult {
  /** Names of the migrations that this call applied. */
  applied: string[];
  /** Beside tables that were there before, of another program. */
  isAdopted: boolean;
  /** Positions begin anew: this cluster's transaction ids are not those of the data (R6). */
  isGenerationRaised: boolean;
  /** Whether usage rows that other programs insert are counted at once. */
  countsForeignRows: boolean;
  /** Whether the log is partitioned by month of its ids. */
  isPartitioned: boolean;
  /** What the owner should know, each with its remedy. */
  warnings: string[];
}

const ATTEMPTS = 10;
const ONLINE_LOCK_TIMEOUT_MS = 500;
const ONLINE_ATTEMPTS = 30;

/**
 * Brings the schema up to date. Migrations in /drizzle that are not applied yet are applied in one
 * transaction; a database that has tables of its own, or of a version before the log, is changed
 * online instead, step by step (docs/adr/0005-adopt-online.md). In a cluster that the ledger does not
 * know it raises the generation of positions (migrate/generation.ts). Any number of processes may
 * call it at once: one works, the others wait and find nothing to do. With nothing to do it
 * takes no lock and needs no right but to read. Ended anywhere, it can be called again.
 *
 * @throws LedgerError `invalid_request` for the schema's name, `unavailable` (unreachable, standby,
 *   locks held too long, adoption refused) or `internal` (server too old, role not permitted, a schema
 *   or data that cannot be adopted, a database that is newer than this program)
 */
export async function migrate(
  databaseUrl: string,
  options: MigrateOptions = {},
): Promise<MigrateResult> {
  const place = citusPlaceOf(databaseUrl);
  if (place !== null) return await migrateOnCitus(place, options, migrate);
  const url = inSchema(databaseUrl, options.schema);
  const client = await connectToMigrate(url, options.lockTimeoutMs ?? 5_000);
  try {
    await assertUsable(client);
    const result = await upgrade(client, url, options);
    const cluster = await knowCluster(client, url, options);
    await applyChoices(client, url, options);
    const partitions = await keepPartitions(client, options, (plan) =>
      locked(client, options, async () => {
        await runSteps(client, await plan(), await runOnline(client, url, options));
      }),
    );
    return {
      applied: result.applied,
      isAdopted: result.work === 'adopt',
      isGenerationRaised: cluster.isRaised,
      countsForeignRows: await countsForeignRows(client),
      isPartitioned: partitions.isPartitioned,
      warnings: [
        ...result.warnings,
        ...cluster.warnings,
        ...partitions.warnings,
        ...(options.countForeignRows ? [DOUBLE_COUNT_WARNING] : []),
        ...warnOfForeignKeys(await findWaitingForeignKeys(client)),
      ],
    };
  } catch (error) {
    throw explainFailure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

/** Foreign keys that make usage writes wait (I4), in words; for `status`. */
export async function findForeignKeyWarnings(database: Queryable): Promise<string[]> {
  return warnOfForeignKeys(await findWaitingForeignKeys(database));
}

interface Upgrade {
  applied: string[];
  work: OnlineWork | null;
  warnings: string[];
}

async function upgrade(client: pg.Client, url: string, options: MigrateOptions): Promise<Upgrade> {
  const nothing: Upgrade = { applied: [], work: null, warnings: [] };
  if ((await findUnapplied(client)).length === 0) return nothing;
  return locked(client, options, async () => {
    // Under the lock: whoever had it before may have done the work.
    const unapplied = await findUnapplied(client);
    if (unapplied.length === 0) return nothing;
    const work = await findOnlineWork(client, unapplied);
    let warnings: string[] = [];
    if (work === null) {
      const isLive = unapplied.length < readJournal().length;
      if (isLive) await limitLockWaits(client, options);
      const attempts = isLive ? ONLINE_ATTEMPTS : ATTEMPTS;
      await applyMigrations(client, unapplied, { log: () => {}, attempts, ...given(options) });
    } else {
      if (work === 'adopt' && options.adopt === false) throw notAsked();
      const run = await runOnline(client, url, options);
      const dropForeignKeys = options.dropForeignKeys ?? false;
      ({ warnings } = await adopt(client, { ...run, dropForeignKeys }));
    }
    const applied = unapplied.map((migration) => migration.name);
    options.log?.(`applied ${applied.join(', ')}`);
    return { applied, work, warnings };
  });
}

function given({ log, attempts }: MigrateOptions) {
  return { ...(log && { log }), ...(attempts && { attempts }) };
}

function notAsked(): LedgerError {
  return new LedgerError(
    'unavailable',
    'this database has tables of its own, and is not adopted yet: look at ' +
      '`microdollar migrate --dry-run`, then run `microdollar migrate`',
    { details: { adoptable: true } },
  );
}

/** Positions of this cluster, from now on; a role that may not see to it is told who may. */
async function knowCluster(client: pg.Client, url: string, options: MigrateOptions) {
  const warnings: string[] = [];
  let isRaised = false;
  try {
    if ((await planGeneration(client)).length > 0) {
      await locked(client, options, async () => {
        const steps = await planGeneration(client, warnings);
        await runSteps(client, steps, await runOnline(client, url, options));
        // Not where sessions from before are left: then steps do nothing.
        isRaised =
          steps.some((step) => step.kind === 'raise_generation') && (await isKnownCluster(client));
      });
    }
  } catch (error) {
    if (!isNotPermitted(error)) throw error;
    warnings.push(
      'positions are not known to be of this cluster (a restored dump?), and this role may not see ' +
        'to it: run `microdollar migrate` as the owner, see MICRODOLLAR_MIGRATION_URL',
    );
  }
  return { isRaised, warnings };
}

/** What the operator asked for beside the schema. */
async function applyChoices(
  client: pg.Client,
  url: string,
  options: MigrateOptions,
): Promise<void> {
  const plan = async () => [
    ...(options.dropForeignKeys ? await findWaitingForeignKeys(client) : []).map(dropForeignKey),
    ...(options.countForeignRows === undefined
      ? []
      : await planForeignRows(client, options.countForeignRows)),
  ];
  if ((await plan()).length === 0) return;
  await locked(client, options, async () => {
    await runSteps(client, await plan(), await runOnline(client, url, options));
  });
}

function locked<Result>(
  client: pg.Client,
  { waitTimeoutMs = 600_000, log = () => {} }: MigrateOptions,
  work: () => Promise<Result>,
): Promise<Result> {
  return underLock(client, { waitTimeoutMs, log }, work);
}

/** Options of steps beside writers; sets the session's lock timeout to theirs. */
async function runOnline(
  client: pg.Client,
  url: string,
  options: MigrateOptions,
): Promise<RunOptions> {
  return {
    url,
    lockTimeoutMs: await limitLockWaits(client, options),
    attempts: options.attempts ?? ONLINE_ATTEMPTS,
    log: options.log ?? (() => {}),
    onStep: options.onStep ?? (() => {}),
  };
}

/** @returns the lock timeout that the session has from now on, ms */
async function limitLockWaits(client: pg.Client, options: MigrateOptions): Promise<number> {
  const lockTimeoutMs = options.lockTimeoutMs ?? ONLINE_LOCK_TIMEOUT_MS;
  await client.query(`set lock_timeout = ${lockTimeoutMs}`);
  return lockTimeoutMs;
}
