import { afterAll, beforeAll, expect, it } from 'vitest';
import { foldBudgetsStatement } from '../../src/budgets/fold.sql.js';
import { openWindowsStatement } from '../../src/budgets/openWindows.sql.js';
import { reserveStatement } from '../../src/budgets/reserve.sql.js';
import { reserveAlikeStatement } from '../../src/budgets/reserveAlike.sql.js';
import { CONNECTION_USES } from '../../src/connections.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Statement } from '../../src/db/statement.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { SLOTS } from '../../src/schema/budgets.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../src/schema/unsettled.js';
import { sharedColumns } from '../../src/shards/move/columns.js';
import {
  deleteStateStatements,
  type PayerStateRow,
  readStateStatement,
  writeStateStatement,
} from '../../src/shards/move/state.sql.js';
import { looksOf, type PlanNode } from '../support/looks.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import {
  acquire,
  addBudget,
  addPayer,
  expectIdentity,
  foldBudgets,
  newHold,
} from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * A budget for each member of a large organization, windows of years, many payers beside: what a statement
 * looks at grows with what it has to do, not with the square of it, nor with what is over.
 */
const MEMBERS = 200;
const DAYS = 1_000;
const OTHERS = 5_000;

let fixture: LedgerFixture;
let ledger: Ledger;
let sessions: Sessions;
let session: Session;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  sessions = await openSessions(fixture.database.url, 1);
  session = sessions.all[0] as Session;
  for (const setting of CONNECTION_USES.budget.settings) await session.run(`set ${setting}`);
  await fixture.rows(
    `insert into budgets (scope, payer_scope, payer_id, period, limit_microdollars)
     select 'user', 'user', 'other ' || i, 'day', 1 from generate_series(1, $1::integer) as i`,
    [OTHERS],
  );
});
afterAll(async () => {
  await sessions.close();
  await fixture.close();
});

/** Rows that a statement looks at; what it does is undone. */
async function looksAt({ text, values }: Statement, before: Statement[] = []): Promise<number> {
  await session.run('begin');
  for (const each of before) await session.run(each.text, [...each.values]);
  const [row] = await session.run<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
    `explain (analyze, timing off, format json) ${text}`,
    [...values],
  );
  await session.run('rollback');
  return looksOf(row?.['QUERY PLAN'][0].Plan as PlanNode);
}

const LIMITS = { rows: 20_000, slots: SLOTS, asked: 1 };

it('a fold of an organization with a budget for each member looks at each of them', async () => {
  const organization = await fixture.addOrganization();
  await acquire(fixture, { organization }, 1_000_000);
  await fixture.rows(
    `insert into kilocode_users (id) select 'member ' || i from generate_series(1, $1::integer) as i`,
    [MEMBERS],
  );
  await fixture.rows(
    `insert into budgets (scope, payer_scope, payer_id, kilo_user_id, period, limit_microdollars)
     select 'member', 'organization', $1, 'member ' || i, 'month', 1000
     from generate_series(1, $2::integer) as i`,
    [organization, MEMBERS],
  );
  await ledger.budgetFolder.open(ORGANIZATION_SCOPE, organization);
  await foldBudgets(ledger, { organization });
  const pays = (member: number) => ({
    kilo_user_id: `member ${member}`,
    organization_id: organization,
  });
  for (let member = 1; member <= 20; member++) {
    const { id } = await ledger.hold({ ...newHold('', 10), ...pays(member) });
    if (member % 2 === 0) await ledger.settle(id, { ...pays(member), cost: 7 });
    else await ledger.recordUsage({ ...pays(member), cost: 3 });
  }
  const looks = await looksAt(foldBudgetsStatement(ORGANIZATION_SCOPE, organization, LIMITS));
  expect(looks).toBeGreaterThan(MEMBERS * SLOTS);
  expect(looks).toBeLessThan(MEMBERS * SLOTS * 40);
  await foldBudgets(ledger, { organization });
  const [spent] = await fixture.rows(
    `select sum(w.spent_microdollars)::float as spent,
       count(*) filter (where w.spent_microdollars > 0)::integer as windows
     from budget_windows as w join budgets as b on b.id = w.budget_id
     where b.payer_id = $1 and not b.is_balance`,
    [organization],
  );
  expect(spent).toEqual({ spent: 100, windows: 20 });
  await expectIdentity(fixture);
});

/** A user with a budget by day, and its windows of some years. */
async function addOldPayer(): Promise<string> {
  const user = await addPayer(fixture, 1_000_000);
  const budget = await addBudget(fixture, { scope: 'user', payer: { user }, limit: 1_000 });
  await fixture.rows(
    `with written as (
       insert into budget_windows (budget_id, window_start, window_end, limit_microdollars,
         spent_microdollars, carry_microdollars)
       select $1::uuid, d, d + interval '1 day', 0, 0, 0
       from generate_series(1, $2::integer) as i
       cross join lateral (
         select (date_trunc('day', now() at time zone 'UTC') - i * interval '1 day') at time zone 'UTC' as d
       ) as d
       returning id
     )
     insert into headroom (window_id, slot)
     select w.id, s from written as w cross join generate_series(0, $3::integer - 1) as s`,
    [budget, DAYS, SLOTS],
  );
  await ledger.budgetFolder.open(USER_SCOPE, user);
  await foldBudgets(ledger, { user });
  await ledger.recordUsage({ kilo_user_id: user, cost: 1 });
  return user;
}

it('windows that are over are not looked at, nor budgets of others', async () => {
  const user = await addOldPayer();
  const request = {
    id: newHold(user, 1).id,
    kilo_user_id: user,
    api_key_id: null,
    project_id: null,
    amount: 1,
    owner: null,
    expires_in_ms: 1_000,
  };
  const statements = {
    fold: foldBudgetsStatement(USER_SCOPE, user, LIMITS),
    open: openWindowsStatement(USER_SCOPE, user),
    reserve: reserveStatement(USER_SCOPE, user, [request], 0),
    reserveAlike: reserveAlikeStatement(USER_SCOPE, user, [request], 0),
  };
  for (const [name, statement] of Object.entries(statements)) {
    expect(await looksAt(statement), name).toBeLessThan(DAYS);
  }
  await expectIdentity(fixture);
});

it('a payer with windows of years is written on another shard with a look at each', async () => {
  const user = await addOldPayer();
  const query = queryOnPool(fixture.database.pool, false);
  const [state] = await query<PayerStateRow>(readStateStatement(USER_SCOPE, user));
  const mark = { below: '0', except: '{}' };
  const columns = await sharedColumns(query, query, 'b');
  const looks = await looksAt(
    writeStateStatement(USER_SCOPE, state?.state ?? '', mark, columns),
    deleteStateStatements(USER_SCOPE, user),
  );
  expect(looks).toBeGreaterThan(DAYS * SLOTS);
  expect(looks).toBeLessThan(DAYS * SLOTS * 20);
});
