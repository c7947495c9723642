import type pg from 'pg';
import { expect } from 'vitest';
import { CONNECTION_USES } from '../../../src/connections.js';
import { Settler } from '../../../src/counter/settler.js';
import { Sweep } from '../../../src/counter/sweep.js';
import { createPool } from '../../../src/db/pool.js';
import { queryOnPool } from '../../../src/db/query.js';
import { createLedger } from '../../../src/ledger.js';
import type { Ledger, LedgerOptions, NamedPayer } from '../../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../../src/record/onExecutor.js';
import type { RecordResult, UsageEvent } from '../../../src/record/types.js';
import { openRollupDatabase, type RollupDatabase } from '../../../src/rollup/database.js';
import type { Accounts } from '../../../src/shards/accounts.js';
import { migrateShards } from '../../../src/shards/migrateShards.js';
import { Moves } from '../../../src/shards/move/moves.js';
import type { MoveShard, PayerName } from '../../../src/shards/move/types.js';
import { keyOfPayer } from '../../../src/shards/placement.js';
import { createShardedLedger } from '../../../src/shards/shardedLedger.js';
import { createTestDatabase, type TestDatabase } from '../../support/database.js';
import { setExaAllowance } from '../../support/exaAllowance.js';
import { openPool } from '../../support/openPool.js';
import { shardOf } from '../../support/shardIds.js';

export const EXA_ALLOWANCE = 1000;
/** The ledgers under test, shared by all programs of a run. */
export interface World extends AsyncDisposable {
  /** The only one; of shards, home. */
  database: TestDatabase;
  /** Of shards one each. */
  databases: readonly TestDatabase[];
  /** Each statement planned once: planning is most of what a program costs. */
  pools: readonly pg.Pool[];
  /** With group commit, one by one, settling in the background alone. */
  writers: Ledger[];
  /** Of a host that has no ledger; there is none of shards. */
  hostPool: pg.Pool;
  /** Where credits are added, and users deleted. */
  accounts: Accounts;
  sweeps: readonly Sweep[];
  settlers: readonly Settler[];
  /** For operators' jobs, on each database. */
  jobs: readonly RollupDatabase[];
  /** On every database; the rows of all. */
  query<Row>(config: pg.QueryConfig): Promise<Row[]>;
  /** Which of the databases has a payer. */
  placeOf(payer: NamedPayer): number;
  /** Moves a payer to another of the databases. */
  move(payer: PayerName, to: number): Promise<void>;
  /** The same event again, by another way than a writer's. */
  replay(event: UsageEvent): Promise<RecordResult>;
}

export async function createWorld(): Promise<World> {
  const database = await createTestDatabase();
  const open = (options: Partial<LedgerOptions>) =>
    createLedger({ databaseUrl: database.url, ...OPTIONS, ...options });
  return await openWorld([database], open, () => ({
    accounts: database.pool,
    placeOf: () => 0,
    move: async () => {},
    replay: (event, hostPool) => insertUsageAndMetadataWithBalanceUpdate(hostPool, event),
  }));
}

/** The same, of a ledger of shards. */
export async function createShardedWorld(names: readonly string[]): Promise<World> {
  const databases = await Promise.all(names.map(() => createTestDatabase()));
  const shards = names.map((name, index) => ({ name, databaseUrl: databases[index]?.url ?? '' }));
  await migrateShards(shards);
  const open = (options: Partial<LedgerOptions>) =>
    createShardedLedger({ shards, ...OPTIONS, ...options });
  const places = new Map<string, number>();
  const moved = databases.map(({ pool }, index) => ({ name: names[index] ?? '', pool }));
  const moves = new Moves({ shards: moved as [MoveShard, ...MoveShard[]] });
  return await openWorld(databases, open, (writers) => ({
    accounts: writers[0] as Ledger,
    placeOf: (payer) => places.get(keyOfPayer(payer)) ?? names.indexOf(shardOf(payer, names)),
    move: async (payer, to) => {
      expect(await moves.move(payer, names[to] ?? '')).toMatchObject({ finished: true });
      places.set(keyOfPayer(payer), to);
    },
    replay: (event) => (writers[1] as Ledger).recordUsage(event),
  }));
}

const OPTIONS = { poolSize: 2, backgroundFold: false, lockTimeoutMs: 500 } as const;

interface Kind {
  accounts: Accounts;
  placeOf(payer: NamedPayer): number;
  move(payer: PayerName, to: number): Promise<void>;
  replay(event: UsageEvent, hostPool: pg.Pool): Promise<RecordResult>;
}

async function openWorld(
  databases: readonly TestDatabase[],
  open: (options: Partial<LedgerOptions>) => Promise<Ledger>,
  kindOf: (writers: readonly Ledger[]) => Kind,
): Promise<World> {
  const [database] = databases as [TestDatabase, ...TestDatabase[]];
  for (const { pool } of databases) await setExaAllowance(pool, EXA_ALLOWANCE);
  const hostPool = openPool({ connectionString: database.url, max: 2 });
  const pools = databases.map(({ url }) =>
    createPool({
      url,
      size: 2,
      applicationName: 'model',
      lockTimeoutMs: 500,
      statementTimeoutMs: 60_000,
      settings: CONNECTION_USES.settle.settings,
    }),
  );
  const writers = [
    await open({}),
    await open({ groupCommit: false }),
    await open({ appendAlways: true }),
  ];
  const kind = kindOf(writers);
  const settlers = pools.map((pool) => new Settler({ query: queryOnPool(pool, true) }));
  const jobs = databases.map(({ url }) => openRollupDatabase(url, 2));
  const world: World = {
    database,
    databases,
    pools,
    writers,
    hostPool,
    ...kind,
    replay: (event) => kind.replay(event, hostPool),
    settlers,
    jobs,
    sweeps: settlers.map(
      (settler, index) => new Sweep(queryOnPool(pools[index] as pg.Pool, true), settler),
    ),
    query: async <Row>(config: pg.QueryConfig) => {
      const results = await Promise.all(pools.map((pool) => pool.query(config)));
      return results.flatMap(({ rows }) => rows as Row[]);
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(writers.map((writer) => writer.close()));
      await hostPool.end();
      await Promise.all([...pools, ...jobs.map(({ pool }) => pool)].map((pool) => pool.end()));
      await Promise.all(databases.map((each) => each.drop()));
    },
  };
  return world;
}
