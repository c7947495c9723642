import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { sweepBudgetsStatement } from '../../src/budgets/keep.sql.js';
import { CONNECTION_USES } from '../../src/connections.js';
import { openMarksStatement, sweepTailsStatement } from '../../src/counter/foldDimensions.sql.js';
import { openCountersStatement } from '../../src/counter/openCounters.sql.js';
import { readBalancesStatement, settleStatement } from '../../src/counter/settle.sql.js';
import { settleExaStatement } from '../../src/counter/settleExa.sql.js';
import { sweepPageStatement } from '../../src/counter/sweep.sql.js';
import type { Statement } from '../../src/db/statement.js';
import { QUARTER_HOURLY } from '../../src/schema/dimensionRollups.js';
import {
  EXA_LOG,
  type Log,
  PAYER_SCOPES,
  type PayerScope,
  payerKeySql,
  USAGE_LOG,
  USER_SCOPE,
} from '../../src/schema/unsettled.js';
import { createTestDatabase } from '../support/database.js';
import { looksOf, type PlanNode } from '../support/looks.js';
import { openSessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * Plans on a host's own connections, which have the server's defaults. Past `jit_above_cost` a
 * server with LLVM compiles a plan, for seconds: what the planner expects of a settle must stay far
 * below that, also before any ANALYZE.
 */
let fixture: LedgerFixture;
const ROWS = 100_000;
const PAYERS = 100;
/** Of 100,000, the default: there is room for ten times the rows. */
const DEAR = 40_000;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  await fixture.rows(
    `insert into kilocode_users (id) select 'user ' || i from generate_series(1, $1::integer) as i`,
    [ROWS],
  );
  await fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, position)
     select gen_random_uuid(), 'user ' || i, 5, microdollar_position()
     from generate_series(1, $1::integer) as i`,
    [ROWS],
  );
});
afterAll(() => fixture.close());

const ids = Array.from({ length: PAYERS }, (_, place) => `user ${place + 1}`);
const STATEMENTS: [name: string, statement: Statement][] = [
  [
    'a settle',
    settleStatement(
      USER_SCOPE,
      ids,
      ids.map(() => true),
      { youngXids: 0, rowsPerPayer: null },
    ),
  ],
  ['balances', readBalancesStatement(USER_SCOPE, ids)],
];

describe.each(STATEMENTS)('%s of many payers', (_, { text, values }) => {
  it.each(['before any ANALYZE', 'after it'])('%s: is not expected to be dear', async (when) => {
    if (when === 'after it') await fixture.rows('analyze');
    await using sessions = await openSessions(fixture.database.url, 1);
    const [row] =
      (await sessions.all[0]?.run<{ 'QUERY PLAN': [{ Plan: { 'Total Cost': number } }] }>(
        `explain (format json) ${text}`,
        values,
      )) ?? [];
    const cost = row?.['QUERY PLAN'][0].Plan['Total Cost'] ?? Number.NaN;
    expect(cost).toBeLessThan(DEAR);
  });
});

/** Total cost that the planner expects of a look at one payer's unsettled rows. */
async function costOfProbe(log: Log): Promise<number> {
  const [row] = await fixture.rows<{ 'QUERY PLAN': [{ Plan: { 'Total Cost': number } }] }>(
    `explain (format json)
     select from ${log.table} as m
     where ${payerKeySql('m')} = hashtextextended('user 7', 0) and m.position is not null`,
  );
  return row?.['QUERY PLAN'][0].Plan['Total Cost'] ?? Number.NaN;
}

it('after ANALYZE the planner knows how few unsettled rows a payer has', async () => {
  await fixture.rows(
    `insert into exa_usage_log (id, kilo_user_id, cost, path, position)
     select gen_random_uuid(), 'user ' || i, 5, '/search', microdollar_position()
     from generate_series(1, $1::integer) as i`,
    [ROWS],
  );
  await fixture.rows('analyze');
  for (const log of [USAGE_LOG, EXA_LOG]) expect(await costOfProbe(log)).toBeLessThan(20);
});

const PAGES = {
  'a sweep': sweepPageStatement,
  'a sweep of budgets': (scope: PayerScope, place: string, limit: number) =>
    sweepBudgetsStatement(scope, place, limit),
  'a sweep of a rollup': (scope: PayerScope, place: string, limit: number) =>
    sweepTailsStatement(QUARTER_HOURLY, scope, place, limit),
};

describe.each(Object.entries(PAGES))('%s', (_, pageStatement) => {
  it.each(PAYER_SCOPES)('begins each page of $payers at its place, by index', async (scope) => {
    const place = scope.name === 'user' ? 'user 7' : '77777777-7777-7777-7777-777777777777';
    const { text } = pageStatement(scope, place, 2_000);
    await using sessions = await openSessions(fixture.database.url, 1);
    const [session] = sessions.all;
    await session?.run(`set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
      set enable_hashjoin = off; set enable_mergejoin = off`);
    await session?.run(`prepare page as ${text}`);
    const rows = await session?.run<{ 'QUERY PLAN': string }>(
      `explain (costs off) execute page(2000, '${place}')`,
    );
    expect(rows?.map((row) => row['QUERY PLAN']).join('\n')).toMatch(
      /Index Cond: \((\(id|u\.id|id|.*payer_id) > \$2\)/,
    );
  });
});

it.each(PAYER_SCOPES)(
  'a settle of $payers planned on empty tables that were analyzed reads none of them whole',
  async (scope) => {
    const empty = await createTestDatabase();
    onTestFinished(() => empty.drop());
    await empty.pool.query('vacuum (analyze)');
    await using sessions = await openSessions(empty.url, 1);
    const [session] = sessions.all;
    for (const setting of CONNECTION_USES.settle.settings) await session?.run(`set ${setting}`);
    const limits = { youngXids: 0, rowsPerPayer: null };
    for (const { text, values } of [
      settleStatement(scope, [], [], limits),
      settleExaStatement(scope, [], limits),
      openCountersStatement(USAGE_LOG, scope, []),
      openCountersStatement(EXA_LOG, scope, []),
    ]) {
      const rows = await session?.run<{ 'QUERY PLAN': string }>(
        `explain (costs off) ${text}`,
        values,
      );
      const plan = rows?.map((row) => row['QUERY PLAN']).join('\n');
      expect(plan).toMatch(/_usage_daily|exa_monthly_usage/);
      expect(plan).not.toMatch(/Seq Scan on (microdollar_usage_daily|exa_monthly_usage)/);
    }
  },
);

it('a sweep planned before there were marks looks up one a payer, however many there are', async () => {
  await using sessions = await openSessions(fixture.database.url, 1);
  const [session] = sessions.all;
  for (const setting of CONNECTION_USES.rollup.settings) await session?.run(`set ${setting}`);
  await session?.run(
    `prepare page as ${sweepTailsStatement(QUARTER_HOURLY, USER_SCOPE, null, 1).text}`,
  );
  await session?.run('begin');
  await session?.run('execute page (1)');
  await session?.run(
    `insert into rollup_starts values ('${QUARTER_HOURLY.name}', 1, now())
     on conflict do nothing`,
  );
  const { text, values } = openMarksStatement(QUARTER_HOURLY, USER_SCOPE, ids);
  await session?.run(text, values);
  const [row] =
    (await session?.run<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
      'explain (analyze, timing off, format json) execute page (2000)',
    )) ?? [];
  await session?.run('rollback');
  const looks = looksOf(row?.['QUERY PLAN'][0].Plan as PlanNode);
  expect(looks).toBeGreaterThan(2_000);
  expect(looks).toBeLessThan(20 * 2_000);
});
