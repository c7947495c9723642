import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type BudgetStore,
  changeBudget,
  listBudgets,
  removeBudget,
  setBudget,
} from '../../src/budgets/budgets.js';
import { windowBounds } from '../../src/budgets/openWindows.sql.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { IS_FULL } from '../support/form.js';
import { lockWaits, openSessions, type Session } from '../support/sessions.js';
import { acquire, addPayer, expectIdentity, newHold, windowsOf } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

let fixture: LedgerFixture;
let ledger: Ledger;
let store: BudgetStore;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  store = { pool: ledger.pool, folder: ledger.budgetFolder };
});

afterAll(() => fixture.close());

const ofUser = (user: string, more: object = {}) => ({
  scope: 'user',
  id: user,
  limit_usd: '0.0001',
  window: 'month',
  ...more,
});

describe('a budget', () => {
  it('is set, changed by setting it again, shown with what is spent, held and left', async () => {
    const user = await addPayer(fixture, 1_000);
    await ledger.recordUsage({ kilo_user_id: user, cost: 30 });
    const budget = await setBudget(store, ofUser(user));
    expect(budget).toMatchObject({ limit_microdollars: 100, spent_microdollars: 30 });
    const { id } = await ledger.hold(newHold(user, 20));
    const again = await setBudget(store, ofUser(user, { limit_usd: 0.0002 }));
    expect(again).toMatchObject({
      id: budget.id,
      limit_microdollars: 200,
      spent_microdollars: 30,
      held_microdollars: 20,
      available_microdollars: 150,
      overshoot_microdollars: 0,
    });
    await ledger.settle(id, { kilo_user_id: user, cost: 5 });
    expect(await listBudgets(store, { scope: 'user', id: user })).toMatchObject([
      { is_balance: true, limit_microdollars: 1_000, spent_microdollars: 35, held_microdollars: 0 },
      { id: budget.id, spent_microdollars: 35, held_microdollars: 0, available_microdollars: 165 },
    ]);
    await expectIdentity(fixture);
  });

  it('set again keeps the zone and the mode that are not given', async () => {
    const user = await addPayer(fixture, 1_000);
    const more = { time_zone: 'Asia/Kolkata', mode: 'soft' };
    const { id } = await setBudget(store, ofUser(user, more));
    const again = await setBudget(store, ofUser(user, { limit_usd: 7 }));
    expect(again).toMatchObject({
      id,
      time_zone: 'Asia/Kolkata',
      is_hard: false,
      limit_microdollars: 7e6,
    });
    // Another zone begins anew, and is as soft.
    const elsewhere = await setBudget(store, ofUser(user, { time_zone: 'Europe/Berlin' }));
    expect(elsewhere).toMatchObject({ time_zone: 'Europe/Berlin', is_hard: false });
    expect(elsewhere.id).not.toBe(id);
    expect(await setBudget(store, ofUser(user, { mode: 'hard' }))).toMatchObject({
      id: elsewhere.id,
      time_zone: 'Europe/Berlin',
      is_hard: true,
    });
    await expectIdentity(fixture);
  });

  it('set in two zones at once is in the zone of who came last, and says so', async () => {
    const user = await addPayer(fixture, 1_000);
    await setBudget(store, ofUser(user, { time_zone: 'Asia/Kolkata' }));
    await using sessions = await openSessions(fixture.database.url, 1);
    const other = sessions.all[0] as Session;
    await other.run('begin');
    await other.run(
      'update budgets set removed_at = now() where payer_id = $1 and not is_balance',
      [user],
    );
    await other.run(
      `insert into budgets (scope, payer_scope, payer_id, period, time_zone, limit_microdollars)
       values ('user', 'user', $1, 'month', 'Europe/Berlin', 7)`,
      [user],
    );
    const setting = setBudget(store, ofUser(user, { time_zone: 'America/New_York' }));
    await expect.poll(() => lockWaits(fixture.database.pool), { interval: 5 }).not.toEqual([]);
    await other.run('commit');
    expect(await setting).toMatchObject({
      time_zone: 'America/New_York',
      limit_microdollars: 100,
    });
    const inForce = await listBudgets(store, { scope: 'user', id: user });
    expect(inForce.map((budget) => budget.time_zone)).toEqual(['UTC', 'America/New_York']);
    await expectIdentity(fixture);
  });

  it('that is lowered below what is spent is in force at once, and shows by how much', async () => {
    const user = await addPayer(fixture, 1_000);
    await setBudget(store, ofUser(user));
    const { id } = await ledger.hold(newHold(user, 80));
    await ledger.settle(id, { kilo_user_id: user, cost: 80 });
    const [, budget] = await listBudgets(store, { scope: 'user', id: user });
    expect(await changeBudget(store, budget?.id ?? '', { limit_usd: '0.00005' })).toMatchObject({
      available_microdollars: 0,
      overshoot_microdollars: 30,
    });
    expect(await ledger.hold(newHold(user, 1))).toMatchObject({
      status: 'refused',
      refused_by: { id: budget?.id },
    });
    await removeBudget(store, budget?.id ?? '');
    expect(await ledger.hold(newHold(user, 1))).toMatchObject({ status: 'granted' });
    expect((await ledgerErrorOf(removeBudget(store, budget?.id ?? ''))).code).toBe('not_found');
    await expectIdentity(fixture);
  });

  it('can be raised until an instant, and falls back by itself', async () => {
    const user = await addPayer(fixture, 1_000);
    const { id } = await setBudget(store, ofUser(user));
    const until = new Date(Date.now() + 3_600_000).toISOString();
    expect(
      await changeBudget(store, id, { raise_usd: '0.0003', raise_until: until }),
    ).toMatchObject({
      limit_microdollars: 400,
      raise_microdollars: 300,
    });
    await ledger.hold(newHold(user, 350));
    await fixture.rows(`update budgets set raise_until = now() where id = $1`, [id]);
    expect(await ledger.hold(newHold(user, 400))).toMatchObject({ status: 'refused' });
    expect(await windowsOf(fixture, user)).toMatchObject([{}, { limit: 100, carry: -250 }]);
    await expectIdentity(fixture);
  });

  it('that is soft counts and refuses nothing; made hard it does', async () => {
    const user = await addPayer(fixture, 1_000);
    const { id } = await setBudget(store, ofUser(user, { mode: 'soft' }));
    expect(await ledger.hold(newHold(user, 500))).toMatchObject({ status: 'granted' });
    await ledger.recordUsage({ kilo_user_id: user, cost: 70 });
    expect(await changeBudget(store, id, { mode: 'hard' })).toMatchObject({
      spent_microdollars: 70,
      available_microdollars: 30,
    });
    expect(await ledger.hold(newHold(user, 31))).toMatchObject({ status: 'refused' });
    expect(await ledger.hold(newHold(user, 30))).toMatchObject({ status: 'granted' });
    await expectIdentity(fixture);
  });

  it.each([
    'Europe/Berlin',
    'America/Havana',
    'Asia/Kathmandu',
    'Australia/Lord_Howe',
    'Pacific/Apia',
  ])('has windows of %s one after the other, also where clocks and months change', async (zone) => {
    // The statement's own bounds, with another clock in the place of now(), at every quarter of an hour.
    const rows = await fixture.rows<{ windows: string }>(
      `select count(*) as windows
       from generate_series(timestamptz '2025-01-01', '2026-12-30', '1 day') as d(day)
       cross join generate_series(d.day, d.day + interval '1 day', '15 minutes') as t(at)
       cross join (
         select p.period, $1::text as time_zone from unnest(array['day', 'week', 'month']) as p(period)
       ) as b
       cross join lateral (select count(*) as n from (${windowBounds('t.at')}) as x) as found
       where found.n <> 1
         and ($2 or extract(day from d.day + interval '1 day') in (1, 2) or
           (d.day - interval '2 days') at time zone $1 + interval '4 days'
             <> (d.day + interval '2 days') at time zone $1)`,
      [zone, IS_FULL],
    );
    expect(rows).toEqual([{ windows: '0' }]);
    const user = await addPayer(fixture, 1_000);
    const first = await setBudget(store, ofUser(user, { window: 'day', time_zone: zone }));
    expect(Date.parse(first.resets_at ?? '')).toBeGreaterThan(Date.now());
    const other = await setBudget(store, ofUser(user, { window: 'day', time_zone: 'UTC' }));
    expect(other.id).not.toBe(first.id);
    expect(await listBudgets(store, { scope: 'user', id: user })).toHaveLength(2);
  });

  it.each([
    // Midnight comes twice: at four, and at five; the day has 25 hours.
    ['America/Havana', 'day', '2026-11-01T04:30Z', '2026-11-01T04:00Z', '2026-11-02T05:00Z'],
    ['America/Havana', 'day', '2026-11-01T03:59Z', '2026-10-31T04:00Z', '2026-11-01T04:00Z'],
    ['America/Havana', 'month', '2026-11-01T04:30Z', '2026-11-01T04:00Z', '2026-12-01T05:00Z'],
    ['Atlantic/Azores', 'day', '2026-10-25T00:30Z', '2026-10-25T00:00Z', '2026-10-26T01:00Z'],
    // It is left out.
    ['America/Santiago', 'day', '2026-09-06T04:00Z', '2026-09-06T04:00Z', '2026-09-07T03:00Z'],
    ['Africa/Cairo', 'week', '2026-04-24T12:00Z', '2026-04-19T22:00Z', '2026-04-26T21:00Z'],
  ])('has the days of reports: %s, %s of %s', async (zone, period, at, from, until) => {
    const [row] = await fixture.rows<{ window_start: Date; window_end: Date }>(
      `select x.* from (select $1::text as time_zone, $2::text as period) as b
       cross join lateral (${windowBounds('$3::timestamptz')}) as x`,
      [zone, period, at],
    );
    expect(row).toEqual({ window_start: new Date(from), window_end: new Date(until) });
  });

  it('opens a new window when its time comes, with what is spent in it', async () => {
    const user = await addPayer(fixture, 1_000);
    await setBudget(store, ofUser(user, { window: 'day' }));
    await ledger.hold(newHold(user, 100));
    // A day passes: what was of today is of yesterday.
    await fixture.rows(
      `update budget_windows as w
       set window_start = w.window_start - interval '1 day', window_end = w.window_start
       from budgets as b where b.id = w.budget_id and b.period = 'day' and b.payer_id = $1`,
      [user],
    );
    await ledger.recordUsage({ kilo_user_id: user, cost: 10 });
    expect(await ledger.hold(newHold(user, 91))).toMatchObject({ status: 'refused' });
    expect(await ledger.hold(newHold(user, 90))).toMatchObject({ status: 'granted' });
    expect(await windowsOf(fixture, user)).toMatchObject([
      {},
      { held: 100, spent: 0 },
      { held: 90, spent: 10 },
    ]);
    await expectIdentity(fixture);
  });

  it('of a key belongs to who pays with it', async () => {
    const organization = await fixture.addOrganization();
    await acquire(fixture, { organization }, 1_000);
    const key = randomUUID();
    await fixture.rows(
      `insert into api_keys (id, key_hash, key_prefix, organization_id) values ($1, $2, 'k', $3)`,
      [key, key, organization],
    );
    const budget = { scope: 'key', id: key, limit_usd: 1, window: 'total' };
    expect(await setBudget(store, budget)).toMatchObject({
      organization_id: organization,
      api_key_id: key,
      resets_at: null,
    });
    await fixture.rows('update api_keys set organization_id = null where id = $1', [key]);
    expect((await ledgerErrorOf(setBudget(store, budget))).details).toMatchObject({ field: 'id' });
  });
});

describe('bad input', () => {
  it.each([
    ['scope', { scope: 'team' }],
    ['window', { window: 'year' }],
    ['time_zone', { time_zone: 'Mars/Olympus' }],
    ['time_zone', { time_zone: '+02:00' }],
    ['limit_usd', { limit_usd: -1 }],
    ['limit_usd', { limit_usd: '-0.0000001' }],
    ['limit_usd', { limit_usd: 'much' }],
    ['limit_usd', { limit_usd: '1e10' }],
    ['mode', { mode: 'firm' }],
    ['id', { id: '' }],
    ['id', { id: 'nobody' }],
    ['kilo_user_id', { scope: 'project', id: 'p' }],
    ['organization_id', { scope: 'member' }],
    ['id', { scope: 'organization', id: 'x' }],
  ])('names %s of %j, and sets nothing', async (field, wrong) => {
    const user = await addPayer(fixture, 1_000);
    const error = await ledgerErrorOf(setBudget(store, { ...ofUser(user), ...wrong }));
    expect(error.details.field).toBe(field);
    expect(await fixture.rows('select from budgets where payer_id = $1', [user])).toEqual([]);
  });

  it.each([
    ['raise_until', { raise_usd: 1, raise_until: '2020-01-01T00:00:00Z' }],
    ['raise_until', { raise_usd: 1 }],
    ['raise_until', { raise_usd: 1, raise_until: 'soon' }],
    ['raise_usd', { raise_usd: -1, raise_until: '2999-01-01T00:00:00Z' }],
    ['limit_usd', {}],
  ])('names %s of the change %j', async (field, change) => {
    const error = await ledgerErrorOf(changeBudget(store, randomUUID(), change));
    expect(error).toMatchObject({ code: 'invalid_request', details: { field } });
  });

  it.each([
    ['amount', { amount: -1 }],
    ['amount', { amount: 0.5 }],
    ['amount', { amount: 1e13 }],
    ['id', { id: 'x' }],
    ['expires_in_ms', { expires_in_ms: 0 }],
    ['expires_in_ms', { expires_in_ms: 1e9 }],
    ['organization_id', { organization_id: 'x' }],
    ['cost', { cost: 1 }],
  ])('names %s of the hold %j', async (field, wrong) => {
    const error = await ledgerErrorOf(ledger.hold({ ...newHold('u', 1), ...wrong } as never));
    expect(error).toMatchObject({ code: 'invalid_event', details: { field } });
  });

  it('names an unknown payer', async () => {
    expect((await ledgerErrorOf(ledger.hold(newHold('nobody', 1)))).code).toBe('unknown_user');
    const user = await fixture.addUser();
    const hold = newHold(user, 1, { organization_id: randomUUID() });
    expect((await ledgerErrorOf(ledger.hold(hold))).code).toBe('unknown_organization');
  });

  it('of a settle is refused: another payer, another key, another id, other content', async () => {
    const user = await addPayer(fixture, 1_000);
    const other = await addPayer(fixture, 1_000);
    const { id } = await ledger.hold(newHold(user, 100));
    const settle = (event: object) =>
      ledgerErrorOf(ledger.settle(id, { kilo_user_id: user, cost: 1, ...event }));
    expect(await settle({ kilo_user_id: other })).toMatchObject({
      code: 'forbidden',
      details: { field: 'kilo_user_id' },
    });
    expect(await settle({ api_key_id: randomUUID() })).toMatchObject({
      code: 'forbidden',
      details: { field: 'api_key_id' },
    });
    expect((await settle({ id: randomUUID() })).details).toMatchObject({ field: 'id' });
    expect(
      (await ledgerErrorOf(ledger.settle(randomUUID(), { kilo_user_id: user, cost: 1 }))).code,
    ).toBe('not_found');
    await ledger.settle(id, { kilo_user_id: user, cost: 1 });
    expect((await settle({ cost: 2 })).code).toBe('idempotency_conflict');
    expect(await ledger.settle(id, { kilo_user_id: user, cost: 1 })).toMatchObject({
      status: 'duplicate',
    });
    await expectIdentity(fixture);
  });
});
