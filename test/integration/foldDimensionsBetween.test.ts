import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { foldStatement } from '../../src/counter/foldDimensions.sql.js';
import { queryOnPool } from '../../src/db/query.js';
import { moveChunk } from '../../src/rollup/archive/moveRows.js';
import type { ArchivedRow } from '../../src/rollup/archive/readFile.js';
import { openRollupDatabase, type RollupDatabase } from '../../src/rollup/database.js';
import { rebuildSlice } from '../../src/rollup/dimensions/rebuildSlice.js';
import { DIMENSION_ROLLUPS, QUARTER_HOURLY } from '../../src/schema/dimensionRollups.js';
import type { Session } from '../support/sessions.js';
import { type Account, AROUND, DAY, Steps, USAGE_KINDS } from './settleHarness.js';

/** What others commit between the snapshot of a fold by dimension and its first row lock. */
let steps: Steps;
let database: RollupDatabase;

beforeAll(async () => {
  steps = await Steps.open();
  database = openRollupDatabase(steps.fixture.database.url, 2);
});
afterEach(() => steps.reset());
afterAll(async () => {
  await database.close();
  await steps[Symbol.asyncDispose]();
});

const foldOthers = () =>
  new DimensionFolder({ query: queryOnPool(steps.fixture.database.pool, false) }).foldAll();

const fold = (by: Session, { kind, payer }: Account) => {
  const { text, values } = foldStatement(QUARTER_HOURLY, kind.scope, [payer], 20_000);
  return by.run(text, values as unknown[]);
};

async function rebuild({ user, organization }: Account): Promise<void> {
  const wrong = {
    slice: { day: DAY, offset: 0, minutes: 1_440 },
    users: organization ? [] : [user],
    organizations: organization ? [organization] : [],
  };
  for (const rollup of DIMENSION_ROLLUPS) await rebuildSlice(database, rollup, wrong, null);
}

async function archive({ user }: Account): Promise<void> {
  await foldOthers();
  const rows = await steps.fixture.rows<ArchivedRow>(
    `select id, kilo_user_id, organization_id, cost::text,
       to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
     from microdollar_usage where kilo_user_id = $1`,
    [user],
  );
  const client = await steps.fixture.database.pool.connect();
  try {
    expect((await moveChunk(client, DAY, rows))?.rows).toBe(3);
  } finally {
    client.release();
  }
}

/** As reported, and in the counter rows alone. */
async function sumsOf({ user }: Account): Promise<unknown[]> {
  return await steps.fixture.rows(
    [`${QUARTER_HOURLY.name}_exact`, QUARTER_HOURLY.name]
      .map(
        (
          name,
        ) => `select sum(cost_microdollars)::integer as cost, sum(requests)::integer as requests
          from ${name} where kilo_user_id = $1`,
      )
      .join(' union all '),
    [user],
  );
}

const MEANWHILE: [name: string, step: (payer: Account) => Promise<unknown>][] = [
  ['another fold', foldOthers],
  ['a repair of the day', rebuild],
  [
    'a fold, and a repair after it',
    async (payer) => {
      await foldOthers();
      await rebuild(payer);
    },
  ],
  ['an archive of what another fold had', archive],
];

describe.each(USAGE_KINDS)('a fold of $name by dimension', (kind) => {
  it.each(MEANWHILE)('beside %s', async (_, meanwhile) => {
    const { a, f } = steps.sessions;
    for (const isFirst of [true, false]) {
      const payer = await steps.account(kind);
      await steps.append(a, payer, 7);
      if (!isFirst) await foldOthers();
      await steps.append(a, payer, 20);
      await steps.append(a, payer, 0);
      await steps.fold(f, payer, AROUND);
      const between = () => meanwhile(payer).then(() => {});
      await steps.betweenSnapshotAndLocks(f, () => fold(f, payer), between);
      await steps.append(a, payer, 300);
      expect((await sumsOf(payer))[0]).toEqual({ cost: 327, requests: 4 });
      await foldOthers();
      const folded = { cost: 327, requests: 4 };
      expect(await sumsOf(payer)).toEqual([folded, folded]);
      await steps.expectExact();
    }
  });
});
