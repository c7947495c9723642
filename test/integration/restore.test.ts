import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { settleStatement } from '../../src/counter/settle.sql.js';
import type { EmbeddedPostgres } from '../../src/db/embedded.js';
import { isKnownCluster, migrate } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { UNKNOWN_GENERATION, USER_SCOPE } from '../../src/schema/unsettled.js';
import { startEmbeddedPostgres } from '../../src/testing.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { burnTransactionIds, copyDatabase } from '../support/copyDatabase.js';
import { createTestDatabase, databaseUrl, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { openSessions } from '../support/sessions.js';

const ORGANIZATION = '11111111-1111-1111-1111-111111111111';
/** More than either cluster has used by the time of these tests. */
const IDS = 100_000;

/** Another cluster, with a database that is migrated and empty. */
interface Cluster {
  url: string;
  pool: pg.Pool;
}

let server: EmbeddedPostgres;
let database: TestDatabase;
let others = 0;
const opened: pg.Pool[] = [];

beforeAll(async () => {
  server = await startEmbeddedPostgres();
});

afterAll(() => server.stop());

async function createElsewhere(): Promise<Cluster> {
  const name = `restored_${++others}`;
  const admin = new pg.Client({ connectionString: databaseUrl(server.url, 'postgres') });
  await admin.connect();
  // The server's own is migrated, and nobody uses it.
  const template = new URL(server.url).pathname.slice(1);
  await admin.query(`create database ${name} template ${template} strategy file_copy`);
  await admin.end();
  const url = databaseUrl(server.url, name);
  const pool = openPool({ connectionString: url, max: 4 });
  opened.push(pool);
  return { url, pool };
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((pool) => pool.end()));
  await database.drop();
});

const nextIdOf = async ({ pool }: { pool: pg.Pool }): Promise<bigint> => {
  const result = await pool.query('select txid_snapshot_xmax(txid_current_snapshot()) as id');
  return BigInt(result.rows[0].id);
};

const unknownRowsOf = async ({ pool }: { pool: pg.Pool }): Promise<number> => {
  const result = await pool.query(`
    select (select count(*)::integer from microdollar_usage where position >= ${UNKNOWN_GENERATION})
      + (select count(*)::integer from exa_usage_log where position >= ${UNKNOWN_GENERATION}) as n`);
  return result.rows[0].n;
};

const append = (user: string, cost: number) => ({
  text: `insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
    values (gen_random_uuid(), $1, $2, '2026-01-10T00:00:00Z', microdollar_position())`,
  values: [user, cost],
});

/** Settled rows, unsettled ones, and one behind the mark that is still unsettled: an exception. */
async function fill(cluster: Cluster): Promise<void> {
  await cluster.pool.query(`insert into kilocode_users (id) values ('ada'), ('bob'), ('eve')`);
  await cluster.pool.query('insert into organizations (id, name) values ($1, $2)', [
    ORGANIZATION,
    'one',
  ]);
  const ledger = await createLedger({ databaseUrl: cluster.url, backgroundFold: false });
  await record(ledger, 20);
  await ledger.fold();
  await ledger.close();
  await using sessions = await openSessions(cluster.url, 1);
  const [late] = sessions.all;
  if (!late) throw new Error('a session');
  await late.run('begin');
  await late.client.query(append('ada', 1_000));
  await cluster.pool.query(append('ada', 30));
  const everybody = settleStatement(USER_SCOPE, ['ada'], [true], {
    youngXids: 0,
    rowsPerPayer: null,
  });
  await cluster.pool.query(everybody);
  await late.run('commit');
  await cluster.pool.query(append('bob', 7));
  const exceptions = await cluster.pool.query(
    `select cardinality(settled_except) > 0 as some from kilocode_users where id = 'ada'`,
  );
  expect(exceptions.rows).toEqual([{ some: true }]);
}

async function record(ledger: Awaited<ReturnType<typeof createLedger>>, events: number) {
  const day = (n: number) => `2026-0${1 + (n % 3)}-10T00:00:00Z`;
  for (let n = 0; n < events; n++) {
    const who = {
      id: randomUUID(),
      kilo_user_id: ['ada', 'bob', 'eve'][n % 3] ?? '',
      organization_id: n % 4 === 0 ? ORGANIZATION : null,
      cost: 10 + n,
      created_at: day(n),
    };
    await ledger.recordUsage(who);
    if (n % 2 === 0) await ledger.recordExaUsage({ ...who, cost: 6_000_000, path: '/search' });
  }
}

/** The checker's findings but for marks that lie ahead of this cluster's ids, as they do until then. */
const findInexact = async ({ pool }: { pool: pg.Pool }): Promise<string[]> =>
  (await checkInvariants(pool)).filter((message) => !message.startsWith('mark of'));

/** Exact before `migrate` and unsettled, whatever is tried; settled after it. */
async function expectRecovery(restored: Cluster): Promise<void> {
  expect(await findInexact(restored)).toEqual([]);
  expect(await isKnownCluster(restored.pool)).toBe(false);
  const ledger = await createLedger({ databaseUrl: restored.url });
  try {
    await record(ledger, 12);
    await ledger.fold();
    expect(await unknownRowsOf(restored)).toBe(18);
    expect(await findInexact(restored)).toEqual([]);

    expect(await migrate(restored.url)).toMatchObject({ isGenerationRaised: true, warnings: [] });
    expect(await isKnownCluster(restored.pool)).toBe(true);
    expect(await unknownRowsOf(restored)).toBe(0);
    expect(await checkInvariants(restored.pool)).toEqual([]);
    await record(ledger, 6);
    await ledger.fold();
    expect(await unknownRowsOf(restored)).toBe(0);
    expect(await checkInvariants(restored.pool)).toEqual([]);
    expect(await checkFolded(restored.pool)).toEqual([]);
    expect(await migrate(restored.url)).toMatchObject({ isGenerationRaised: false });
  } finally {
    await ledger.close();
  }
}

describe('a dump that is restored into another cluster', () => {
  it('whose transaction ids are smaller: exact at once, settled after migrate', async () => {
    database = await createTestDatabase();
    await burnTransactionIds(database.pool, IDS);
    await fill(database);
    const restored = await createElsewhere();
    await copyDatabase(database.url, restored.url);
    expect(await nextIdOf(restored)).toBeLessThan(await nextIdOf(database));
    await expectRecovery(restored);
  });

  it('whose transaction ids are larger: the same', async () => {
    database = await createTestDatabase();
    const source = await createElsewhere();
    await burnTransactionIds(database.pool, IDS);
    await fill(source);
    await copyDatabase(source.url, database.url);
    expect(await nextIdOf(database)).toBeGreaterThan(await nextIdOf(source));
    await expectRecovery(database);
  });

  it('and back into the one that it came from', async () => {
    database = await createTestDatabase();
    await fill(database);
    const restored = await createElsewhere();
    await copyDatabase(database.url, restored.url);
    await migrate(restored.url);
    const ledger = await createLedger({ databaseUrl: restored.url });
    await record(ledger, 6);
    await ledger.close();
    await copyDatabase(restored.url, database.url);
    await expectRecovery(database);
  });
});
