import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { listAlerts, removeAlert, setAlert } from '../../src/alerts/alerts.js';
import { raiseAlerts } from '../../src/alerts/raise.js';
import { addWebhook } from '../../src/alerts/webhooks.js';
import { changeBudget, removeBudget, setBudget } from '../../src/budgets/budgets.js';
import { type FoldRow, foldBudgetsStatement } from '../../src/budgets/fold.sql.js';
import { lockBudgetsStatement, openWindowsStatement } from '../../src/budgets/openWindows.sql.js';
import type { Query } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { SLOTS } from '../../src/schema/budgets.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { openSessions, type Session } from '../support/sessions.js';
import {
  addAlerted,
  budgetStore,
  countOf,
  eventsOf,
  spend,
  thresholdsOf,
  topUp,
} from './alertHarness.js';
import { acquire, addPayer, expectIdentity, foldBudgets } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

/** What is crossed is decided with what is settled, once. */
let fixture: LedgerFixture;
let ledger: Ledger;
/** Another process. */
let other: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open({ allowPrivateWebhooks: true });
  other = await fixture.open();
});

afterAll(() => fixture.close());

const HOURS = 3_600_000;
const hoursAgo = (hours: number) => new Date(Date.now() - hours * HOURS).toISOString();

describe('an alert on a budget', () => {
  it('tells each threshold when it is reached, and once', async () => {
    const { user, alert } = await addAlerted(fixture, ledger);
    expect(alert).toMatchObject({ kilo_user_id: user, thresholds_percent: [50, 80, 100] });
    await spend(ledger, user, 49);
    expect(await eventsOf(fixture, user)).toEqual([]);
    await spend(ledger, user, 1);
    expect(await eventsOf(fixture, user)).toMatchObject([{ threshold: 50, limit: 100, spent: 50 }]);
    await spend(ledger, user, 70);
    expect(await thresholdsOf(fixture, user)).toEqual([50, 80, 100]);
    await spend(ledger, user, 500);
    expect(await thresholdsOf(fixture, user)).toEqual([50, 80, 100]);
    const [listed] = await listAlerts(ledger.pool, { scope: 'user', id: user });
    expect(Date.parse(listed?.last_event_at ?? '')).toBeGreaterThan(Date.now() - HOURS);
    await expectIdentity(fixture);
  });

  it('tells one crossing of what refunds and usage cross back and forth', async () => {
    const { user } = await addAlerted(fixture, ledger, { thresholds_percent: [80] });
    for (const cost of [85, -20, 30, -60, 55]) {
      await spend(ledger, user, cost);
      await expectIdentity(fixture);
    }
    expect(await eventsOf(fixture, user)).toMatchObject([{ threshold: 80, spent: 85 }]);
  });

  it('is silent where usage that would cross was refunded before it was settled', async () => {
    const { user } = await addAlerted(fixture, ledger);
    await ledger.recordUsage({ kilo_user_id: user, cost: 90 });
    await spend(ledger, user, -80);
    expect(await eventsOf(fixture, user)).toEqual([]);
    await expectIdentity(fixture);
  });

  it('tells at once what is crossed already when it is set, or the limit is lowered', async () => {
    const { user, budgetId } = await addAlerted(fixture, ledger, { thresholds_percent: [90] });
    await spend(ledger, user, 60);
    expect(await thresholdsOf(fixture, user)).toEqual([]);
    await setAlert(ledger.alertStore, {
      kind: 'budget',
      budget_id: budgetId,
      thresholds_percent: [60, 90, 60],
    });
    expect(await thresholdsOf(fixture, user)).toEqual([60]);
    await changeBudget(budgetStore(ledger), budgetId, { limit_usd: '0.00006' });
    expect(await thresholdsOf(fixture, user)).toEqual([60, 90]);
    expect(await listAlerts(ledger.pool, { scope: 'user', id: user })).toHaveLength(1);
    await expectIdentity(fixture);
  });

  it('of nothing is told with the first microdollar', async () => {
    const user = await addPayer(fixture, 0);
    const budget = { scope: 'user', id: user, limit_usd: 0, window: 'month', mode: 'soft' };
    const { id } = await setBudget(budgetStore(ledger), budget);
    await setAlert(ledger.alertStore, { kind: 'budget', budget_id: id });
    expect(await thresholdsOf(fixture, user)).toEqual([]);
    await spend(ledger, user, 1);
    expect(await thresholdsOf(fixture, user)).toEqual([50, 80, 100]);
  });

  it('tells each window anew, and of one that has ended what late usage crosses', async () => {
    const { user } = await addAlerted(fixture, ledger, { thresholds_percent: [50] });
    // A day passes: what was of today is of yesterday.
    await fixture.rows(
      `update budget_windows as w
       set window_start = w.window_start - interval '1 day', window_end = w.window_start
       from budgets as b where b.id = w.budget_id and b.period = 'day' and b.payer_id = $1`,
      [user],
    );
    await fixture.rows(
      `update usage_alerts set set_at = set_at - interval '1 day' where payer_id = $1`,
      [user],
    );
    await spend(ledger, user, 50);
    await spend(ledger, user, 60, { created_at: hoursAgo(24) });
    await spend(ledger, user, 60, { created_at: hoursAgo(24) });
    const events = await eventsOf(fixture, user);
    expect(events.map(({ spent }) => spent)).toEqual([60, 50]);
    await expectIdentity(fixture);
  });

  it('does not tell of a window that had ended before it was set', async () => {
    const { user, budgetId } = await addAlerted(fixture, ledger, { thresholds_percent: [90] });
    await fixture.rows(
      `update budget_windows as w
       set window_start = w.window_start - interval '1 day', window_end = w.window_start
       from budgets as b where b.id = w.budget_id and b.period = 'day' and b.payer_id = $1`,
      [user],
    );
    const again = { kind: 'budget', budget_id: budgetId, thresholds_percent: [10] };
    await setAlert(ledger.alertStore, again);
    await spend(ledger, user, 60, { created_at: hoursAgo(24) });
    expect(await eventsOf(fixture, user)).toEqual([]);
    await expectIdentity(fixture);
  });

  it('goes with its budget to another zone, and away', async () => {
    const { user, budgetId, alert } = await addAlerted(fixture, ledger);
    const moved = await setBudget(budgetStore(ledger), {
      scope: 'user',
      id: user,
      limit_usd: '0.0001',
      window: 'day',
      time_zone: 'Pacific/Kiritimati',
    });
    expect(moved.id).not.toBe(budgetId);
    const mine = { scope: 'user', id: user } as const;
    expect(await listAlerts(ledger.pool, mine)).toMatchObject([
      { id: alert.id, budget_id: moved.id },
    ]);
    await spend(ledger, user, 80);
    expect(await thresholdsOf(fixture, user)).toEqual([50, 80]);
    await removeBudget(budgetStore(ledger), moved.id);
    expect(await listAlerts(ledger.pool, mine)).toEqual([]);
    await spend(ledger, user, 80);
    expect(await thresholdsOf(fixture, user)).toEqual([50, 80]);
    await expectIdentity(fixture);
  });

  it('of a member of an organization counts that member alone', async () => {
    const organization = await fixture.addOrganization();
    await acquire(fixture, { organization }, 10_000);
    const [ada, bob] = [await fixture.addUser(), await fixture.addUser()];
    await fixture.rows(
      `insert into organization_memberships (organization_id, kilo_user_id, role)
       values ($1, $2, 'member'), ($1, $3, 'member')`,
      [organization, ada, bob],
    );
    const budget = await setBudget(budgetStore(ledger), {
      scope: 'member',
      id: ada,
      organization_id: organization,
      limit_usd: '0.0001',
      window: 'total',
    });
    await setAlert(ledger.alertStore, { kind: 'budget', budget_id: budget.id });
    for (const [user, cost] of [
      [bob, 500],
      [ada, 55],
    ] as const) {
      await ledger.recordUsage({ kilo_user_id: user, organization_id: organization, cost });
    }
    await foldBudgets(ledger, { organization });
    expect(await eventsOf(fixture, organization)).toMatchObject([{ threshold: 50, spent: 55 }]);
    await expectIdentity(fixture);
  });
});

describe('folds at once', () => {
  it('decide one after the other: who comes second finds what the first told', async () => {
    const { user } = await addAlerted(fixture, ledger, { thresholds_percent: [50] });
    await ledger.recordUsage({ kilo_user_id: user, cost: 60 });
    await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        (n % 2 ? ledger : other).budgetFolder.foldFor(USER_SCOPE, user, 0),
      ),
    );
    await foldBudgets(ledger, { user });
    expect(await eventsOf(fixture, user)).toHaveLength(1);
    await expectIdentity(fixture);
  });

  it('one that ends before its commit has told nothing, and the next tells it', async () => {
    const { user } = await addAlerted(fixture, ledger, { thresholds_percent: [50] });
    await ledger.recordUsage({ kilo_user_id: user, cost: 60 });
    const dying = await fixture.open();
    await expect(
      dying.budgetFolder.foldAfter(USER_SCOPE, user, async () => {
        // The connection is cut within the fold's transaction, with the mark locked.
        await fixture.rows(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and application_name = 'microdollar budget'
             and state = 'idle in transaction'`,
        );
      }),
    ).rejects.toThrow();
    expect(await eventsOf(fixture, user)).toEqual([]);
    await foldBudgets(ledger, { user });
    expect(await eventsOf(fixture, user)).toHaveLength(1);
    await expectIdentity(fixture);
  });

  it('an alert is not set while another transaction keeps the mark, and says so', async () => {
    const { user } = await addAlerted(fixture, ledger);
    await using sessions = await openSessions(fixture.database.url, 1);
    const holder = sessions.all[0] as Session;
    await holder.run('begin');
    const { text, values } = lockBudgetsStatement(USER_SCOPE, user);
    await holder.run(text, values);
    const wanted = { kind: 'balance', kilo_user_id: user, below_usd: 1 };
    expect(await ledgerErrorOf(setAlert(ledger.alertStore, wanted))).toMatchObject({
      code: 'unavailable',
      retryable: true,
    });
    await holder.run('commit');
    expect(await setAlert(ledger.alertStore, wanted)).toMatchObject({ kind: 'balance' });
    await expectIdentity(fixture);
  });
});

describe('an alert on a balance', () => {
  const below = (user: string, usd: string) =>
    setAlert(ledger.alertStore, { kind: 'balance', kilo_user_id: user, below_usd: usd });

  it('tells when less is left, and again only after a top-up led out of it', async () => {
    const user = await addPayer(fixture, 1_000);
    expect(await below(user, '0.0002')).toMatchObject({ below_microdollars: 200 });
    await spend(ledger, user, 800);
    expect(await eventsOf(fixture, user)).toEqual([]);
    await spend(ledger, user, 1);
    expect(await eventsOf(fixture, user)).toMatchObject([{ limit: 1_000, spent: 801 }]);
    // A refund leads out and usage back in: one crossing.
    await spend(ledger, user, -500);
    await spend(ledger, user, 600);
    expect(await eventsOf(fixture, user)).toHaveLength(1);
    // So little leads nowhere.
    await topUp(fixture, ledger, user, 50);
    await spend(ledger, user, 1);
    expect(await eventsOf(fixture, user)).toHaveLength(1);
    await topUp(fixture, ledger, user, 1_000);
    await expectIdentity(fixture);
    await spend(ledger, user, 1_000);
    expect(await eventsOf(fixture, user)).toMatchObject([{}, { limit: 2_050, spent: 1_902 }]);
    await expectIdentity(fixture);
  });

  it('that is set below its line tells at once, and a changed line of its own', async () => {
    const user = await addPayer(fixture, 100);
    await below(user, '0.0002');
    expect(await thresholdsOf(fixture, user)).toEqual([200]);
    await below(user, '0.0003');
    await below(user, '0.0003');
    await below(user, '0.00005');
    expect(await thresholdsOf(fixture, user)).toEqual([200, 300]);
    expect(await listAlerts(ledger.pool, { scope: 'user', id: user })).toHaveLength(1);
    await expectIdentity(fixture);
  });

  it('sees what Exa charges, with the sweep', async () => {
    const user = await addPayer(fixture, 1_000);
    await below(user, '0.001');
    await fixture.rows('update ledger_settings set exa_free_allowance_microdollars = 0');
    await ledger.recordExaUsage({ kilo_user_id: user, cost: 5, path: '/search' });
    await ledger.keepBudgets();
    expect(await eventsOf(fixture, user)).toMatchObject([{ spent: 5 }]);
    await expectIdentity(fixture);
  });

  it('of an organization is its own', async () => {
    const organization = await fixture.addOrganization();
    await acquire(fixture, { organization }, 100);
    const user = await fixture.addUser();
    await setAlert(ledger.alertStore, {
      kind: 'balance',
      organization_id: organization,
      below_usd: '0.00005',
    });
    await ledger.recordUsage({ kilo_user_id: user, organization_id: organization, cost: 60 });
    await ledger.keepBudgets();
    expect(await eventsOf(fixture, organization)).toMatchObject([{ limit: 100, spent: 60 }]);
    await expectIdentity(fixture);
  });
});

describe('an alert on spend', () => {
  /** The usual is 168 over the week before: 1 an hour. With a time of the hour that is looked at. */
  async function addUsual(floor: string, percents = [300]) {
    const user = await addPayer(fixture, 1_000_000);
    for (const hours of [2, 50, 166]) {
      await ledger.recordUsage({ kilo_user_id: user, cost: 56, created_at: hoursAgo(hours) });
    }
    await ledger.recordUsage({ kilo_user_id: user, cost: 9_000, created_at: hoursAgo(170) });
    await setAlert(ledger.alertStore, {
      kind: 'spend',
      kilo_user_id: user,
      thresholds_percent: percents,
      floor_usd: floor,
    });
    const now = { created_at: hoursAgo(0) };
    return { user, now, use: (cost: number) => spend(ledger, user, cost, now) };
  }

  it('tells an hour of so many times the mean of the seven days before, idle hours too', async () => {
    const { user, use } = await addUsual('0', [300, 1_000]);
    await use(2);
    expect(await eventsOf(fixture, user)).toEqual([]);
    await use(1);
    expect(await eventsOf(fixture, user)).toMatchObject([
      { kind: 'spend', threshold: 300, limit: 1, spent: 3 },
    ]);
    await use(-3);
    await use(20);
    expect(await thresholdsOf(fixture, user)).toEqual([300, 1_000]);
    await expectIdentity(fixture);
  });

  it('is silent below its floor', async () => {
    const { user, use } = await addUsual('0.00001');
    await use(9);
    expect(await eventsOf(fixture, user)).toEqual([]);
    await use(1);
    expect(await eventsOf(fixture, user)).toMatchObject([{ limit: 1, spent: 10 }]);
    await expectIdentity(fixture);
  });

  it('compares with what was usual when the hour began to be looked at', async () => {
    const { user, use } = await addUsual('0');
    await use(1);
    await spend(ledger, user, 168_000, { created_at: hoursAgo(30) });
    await use(2);
    expect(await eventsOf(fixture, user)).toMatchObject([{ limit: 1, spent: 3 }]);
    await expectIdentity(fixture);
  });

  it('is the same whether the rollup has the rows or not', async () => {
    const { user, use } = await addUsual('0');
    await ledger.fold();
    await use(1);
    await ledger.fold();
    await use(2);
    expect(await eventsOf(fixture, user)).toMatchObject([{ limit: 1, spent: 3 }]);
    await expectIdentity(fixture);
  });

  it('leaves out what was committed after the fold looked', async () => {
    const { user, now } = await addUsual('0');
    await ledger.recordUsage({ kilo_user_id: user, cost: 3, ...now });
    await using sessions = await openSessions(fixture.database.url, 2);
    const [folding, writer] = sessions.all as [Session, Session];
    const query: Query = (statement) => folding.run(statement.text, statement.values);
    await writer.run('begin');
    await writer.run(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
       values (gen_random_uuid(), $1, -2, $2, microdollar_position())`,
      [user, now.created_at],
    );
    await folding.run('begin');
    await query(lockBudgetsStatement(USER_SCOPE, user));
    await query(openWindowsStatement(USER_SCOPE, user));
    const limits = { rows: 1_000, slots: SLOTS, asked: 0 };
    const rows = await query<FoldRow>(foldBudgetsStatement(USER_SCOPE, user, limits));
    await writer.run('commit');
    expect(await raiseAlerts(query, USER_SCOPE, user, rows)).toBe(1);
    await folding.run('commit');
    expect(await eventsOf(fixture, user)).toMatchObject([{ limit: 1, spent: 3 }]);
    await expectIdentity(fixture);
    await foldBudgets(ledger, { user });
    await expectIdentity(fixture);
  });
});

describe('usage of a payer with an alert', () => {
  it('is settled soon by the process that records it, though nothing is held', async () => {
    const folding = await fixture.open({ backgroundFold: true });
    const { user } = await addAlerted(fixture, folding, { thresholds_percent: [50] });
    await folding.recordUsage({ kilo_user_id: user, cost: 60 });
    await expect.poll(() => thresholdsOf(fixture, user), { timeout: 10_000 }).toEqual([50]);
    const { values } = await folding.metrics.alertsRaised.get();
    expect(values).toMatchObject([{ value: 1 }]);
    await folding.close();
    await expectIdentity(fixture);
  });
});

describe('a payer without alerts', () => {
  it('is folded by the same statements as ever', async () => {
    const { user, alert } = await addAlerted(fixture, ledger);
    await removeAlert(ledger.pool, alert.id);
    await spend(ledger, user, 100);
    expect(await eventsOf(fixture, user)).toEqual([]);
    expect((await ledgerErrorOf(removeAlert(ledger.pool, alert.id))).code).toBe('not_found');
  });
});

describe('who is deleted', () => {
  it('has no alert, and no webhook with an address or a secret', async () => {
    const { user } = await addAlerted(fixture, ledger);
    const url = 'http://127.0.0.1:1/hook-of-ada';
    await addWebhook(ledger.alertStore, { url, kilo_user_id: user });
    await softDeleteUser(fixture.database.pool, user);
    expect(await listAlerts(ledger.pool, { scope: 'user', id: user })).toEqual([]);
    const hooks = await fixture.rows(
      `select url, secret, previous_secret from usage_alert_webhooks where payer_id = $1`,
      [user],
    );
    expect(hooks).toEqual([{ url: '', secret: '', previous_secret: null }]);
  });
});

describe('bad input', () => {
  it.each([
    ['kind', { kind: 'mood' }],
    ['budget_id', { kind: 'budget' }],
    ['budget_id', { kind: 'budget', budget_id: 'x' }],
    ['budget_id', { kind: 'budget', budget_id: '00000000-0000-4000-8000-000000000000' }],
    ['below_usd', { kind: 'balance', kilo_user_id: 'ada' }],
    ['below_usd', { kind: 'balance', kilo_user_id: 'ada', below_usd: 0 }],
    ['below_usd', { kind: 'balance', kilo_user_id: 'ada', below_usd: -1 }],
    ['below_usd', { kind: 'spend', kilo_user_id: 'ada', below_usd: 1 }],
    ['thresholds_percent', { kind: 'balance', kilo_user_id: 'ada', thresholds_percent: [50] }],
    ['thresholds_percent', { kind: 'spend', kilo_user_id: 'ada', thresholds_percent: [100] }],
    ['thresholds_percent', { kind: 'spend', kilo_user_id: 'ada', thresholds_percent: [] }],
    ['thresholds_percent', { kind: 'spend', kilo_user_id: 'ada', thresholds_percent: [300.5] }],
    ['floor_usd', { kind: 'spend', kilo_user_id: 'ada', floor_usd: 'much' }],
    ['kilo_user_id', { kind: 'spend' }],
    ['kilo_user_id', { kind: 'spend', kilo_user_id: 'nobody' }],
    ['organization_id', { kind: 'spend', organization_id: 'x' }],
  ])('names %s of %j, and sets nothing', async (field, wrong) => {
    await fixture.rows(`insert into kilocode_users (id) values ('ada') on conflict do nothing`);
    const before = await countOf(fixture, 'usage_alerts');
    const error = await ledgerErrorOf(setAlert(ledger.alertStore, wrong));
    expect(error.details.field).toBe(field);
    expect(await countOf(fixture, 'usage_alerts')).toBe(before);
  });
});
