import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { markDeletedStatement } from '../../src/accounts/softDelete.sql.js';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import { moveChunk } from '../../src/rollup/archive/moveRows.js';
import type { ArchivedRow } from '../../src/rollup/archive/readFile.js';
import { lockCountersStatement, rebuildCountersStatement } from '../../src/rollup/rebuild.sql.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { checkFolded } from '../support/checkInvariants.js';
import type { Session } from '../support/sessions.js';
import { type Account, AROUND, BEHIND, DAY, Steps, USAGE_KINDS } from './settleHarness.js';

/**
 * What others commit between the snapshot of a fold and its first row lock: the fold then meets
 * rows that moved on (EvalPlanQual), or are gone, and adds to what it finds there, or to nothing.
 */
let steps: Steps;

beforeAll(async () => {
  steps = await Steps.open();
});
afterEach(() => steps.reset());
afterAll(() => steps[Symbol.asyncDispose]());

type Step = (payer: Account, by: Session) => Promise<unknown>;

const countersOf = ({ user }: Account) =>
  steps.fixture
    .rows<{ id: string }>('select id from microdollar_usage_daily where kilo_user_id = $1', [user])
    .then((rows) => rows.map((row) => row.id));

async function rebuild(payer: Account, by: Session): Promise<void> {
  const ids = await countersOf(payer);
  await by.run('begin');
  for (const { text, values } of [
    lockCountersStatement(DAILY_ROLLUP, ids),
    rebuildCountersStatement(DAILY_ROLLUP, ids),
  ]) {
    await by.run(text, values);
  }
  await by.run('commit');
}

/** Every row of the day: those that are settled go, the others stay. */
async function archive({ user }: Account): Promise<void> {
  await new DimensionFolder({ query: queryOnPool(steps.fixture.database.pool, false) }).foldAll();
  const rows = await steps.fixture.rows<ArchivedRow>(
    `select id, kilo_user_id, organization_id, cost::text,
       to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
     from microdollar_usage where kilo_user_id = $1`,
    [user],
  );
  const client = await steps.fixture.database.pool.connect();
  try {
    const moved = await moveChunk(client, DAY, rows);
    expect(moved?.rows).toBe(rows.filter((row) => Number(row.cost) === 7).length);
  } finally {
    client.release();
  }
}

const MEANWHILE: [name: string, step: Step][] = [
  ['nothing', async () => {}],
  ['a repair of the day', rebuild],
  ['an archive of the day', archive],
  [
    'a credit',
    (payer) =>
      addCredit(steps.fixture.database.pool, {
        ...(payer.organization
          ? { organization_id: payer.organization }
          : { kilo_user_id: payer.user }),
        usd: 5,
      }),
  ],
  [
    'a soft delete of the user',
    ({ user }, by) => {
      const { text, values } = markDeletedStatement(user);
      return by.run(text, values);
    },
  ],
  [
    'an update of the payer that a savepoint took back, and one that it kept',
    async ({ kind, payer }, by) => {
      const update = `update ${kind.scope.payers} set updated_at = now() where id::text = $1`;
      await by.run('begin');
      await by.run(update, [payer]);
      await by.run('savepoint one');
      await by.run(update, [payer]);
      await by.run('rollback to savepoint one');
      await by.run('commit');
    },
  ],
  [
    'a lock of the payer and the day that was taken back',
    async ({ kind, payer, user }, by) => {
      await by.run('begin');
      await by.run('savepoint one');
      await by.run(`select from ${kind.scope.payers} where id::text = $1 for update`, [payer]);
      await by.run('select from microdollar_usage_daily where kilo_user_id = $1 for update', [
        user,
      ]);
      await by.run('rollback to savepoint one');
    },
  ],
  [
    'key-share locks of the payer, which stay',
    async ({ kind, payer }, by) => {
      await by.run('begin');
      await by.run(`select from ${kind.scope.payers} where id::text = $1 for key share`, [payer]);
    },
  ],
  [
    'a day that was deleted and opened again',
    async (payer, by) => {
      const [row] = await by.run<{ total: string }>(
        `delete from microdollar_usage_daily where kilo_user_id = $1
         returning total_cost_microdollars as total`,
        [payer.user],
      );
      await by.run(
        `insert into microdollar_usage_daily
           (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
         values ($1, $2, '2025-05-06', $3)`,
        [payer.user, payer.organization, row?.total],
      );
    },
  ],
];

describe.each(USAGE_KINDS)('a fold of $name', (kind) => {
  it.each(MEANWHILE)('beside %s', async (_, meanwhile) => {
    const { a, b, f } = steps.sessions;
    for (const limits of [AROUND, BEHIND]) {
      const payer = await steps.account(kind);
      await steps.append(a, payer, 7);
      await steps.expectFolds(payer, 1);
      await steps.append(a, payer, 20);
      await steps.append(a, payer, -5);
      await steps.betweenSnapshotAndLocks(
        f,
        () => steps.fold(f, payer, limits),
        async () => {
          await meanwhile(payer, b);
        },
      );
      await steps.expectExact();
      await b.run('rollback');
      await steps.append(a, payer, 300);
      await steps.expectExact();
      await steps.fold(f, payer, AROUND);
      await steps.expectExact();
      expect((await steps.fold(f, payer, AROUND)).depth).toBe(0);
      expect(await checkFolded(steps.fixture.database.pool)).toEqual([]);
    }
  });

  it.each(MEANWHILE)('a write in place beside %s', async (_, meanwhile) => {
    const { a, b, f } = steps.sessions;
    const payer = await steps.account(kind);
    await steps.append(a, payer, 7);
    await steps.expectFolds(payer, 1);
    await steps.append(a, payer, 20);
    await steps.betweenSnapshotAndLocks(
      f,
      () => steps.inPlace(f, payer, 1_000),
      async () => {
        await meanwhile(payer, b);
      },
    );
    await steps.expectExact();
    await b.run('rollback');
    await steps.fold(f, payer, AROUND);
    await steps.expectExact();
    expect((await steps.fold(f, payer, AROUND)).depth).toBe(0);
    expect(await checkFolded(steps.fixture.database.pool)).toEqual([]);
  });
});
