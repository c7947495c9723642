import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import {
  acquire,
  addBudget,
  addPayer,
  expectIdentity,
  expectWhole,
  foldBudgets,
  newHold,
  windowsOf,
} from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});

afterAll(() => fixture.close());

describe('a hold', () => {
  it('is granted from the balance, and refused when nothing is left of it', async () => {
    const user = await addPayer(fixture, 1_000);
    expect(await ledger.hold(newHold(user, 600))).toMatchObject({
      status: 'granted',
      amount: 600,
      available_microdollars: 400,
    });
    expect(await ledger.hold(newHold(user, 401))).toMatchObject({
      status: 'refused',
      available_microdollars: 400,
      refused_by: { scope: 'user', window: 'total', is_balance: true, limit_microdollars: 1_000 },
      resets_at: null,
    });
    expect(await ledger.hold(newHold(user, 400))).toMatchObject({ status: 'granted' });
    expect(await ledger.hold(newHold(user, 0))).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });

  it('gives back what was not spent, once the fold has counted its usage', async () => {
    const user = await addPayer(fixture, 1_000);
    const { id, created_at } = await ledger.hold(newHold(user, 1_000));
    const settled = await ledger.settle(id, { kilo_user_id: user, cost: 10 });
    expect(settled).toMatchObject({
      id,
      status: 'recorded',
      created_at,
      new_microdollars_used: 10,
    });
    await expectWhole(fixture);
    expect(await ledger.hold(newHold(user, 990))).toMatchObject({ status: 'granted' });
    expect(await windowsOf(fixture, user)).toEqual([
      { scope: 'user', is_balance: true, limit: 1_000, spent: 10, carry: 0, slots: 0, held: 990 },
    ]);
    await expectWhole(fixture);
  });

  it('is refused by the tightest budget that counts it, which says when it resets', async () => {
    const user = await addPayer(fixture, 10_000);
    const key = randomUUID();
    await addBudget(fixture, { scope: 'user', payer: { user }, limit: 500, period: 'month' });
    const ofKey = await addBudget(fixture, { scope: 'key', payer: { user }, key, limit: 100 });
    const refused = await ledger.hold(newHold(user, 101, { api_key_id: key }));
    expect(refused).toMatchObject({
      status: 'refused',
      available_microdollars: 100,
      refused_by: { id: ofKey, scope: 'key', window: 'day', limit_microdollars: 100 },
    });
    const midnight = new Date();
    midnight.setUTCHours(24, 0, 0, 0);
    expect(Date.parse(refused.resets_at ?? '')).toBe(midnight.getTime());
    expect(await ledger.hold(newHold(user, 101))).toMatchObject({ status: 'granted' });
    expect(await ledger.hold(newHold(user, 100, { api_key_id: key }))).toMatchObject({
      status: 'granted',
      available_microdollars: 0,
    });
    expect(await ledger.hold(newHold(user, 300))).toMatchObject({
      status: 'refused',
      available_microdollars: 299,
      refused_by: { scope: 'user', window: 'month' },
    });
    await expectWhole(fixture);
  });

  it('takes from all of its budgets or from none', async () => {
    const organization = await fixture.addOrganization();
    await acquire(fixture, { organization }, 1_000);
    const user = await fixture.addUser();
    const payer = { organization };
    await addBudget(fixture, { scope: 'organization', payer, limit: 900, period: 'week' });
    await addBudget(fixture, { scope: 'member', payer, user, limit: 50 });
    await addBudget(fixture, { scope: 'project', payer, project: 'p', limit: 70, period: 'total' });
    const hold = (amount: number) =>
      ledger.hold(newHold(user, amount, { organization_id: organization, project_id: 'p' }));
    expect(await hold(60)).toMatchObject({ status: 'refused', refused_by: { scope: 'member' } });
    expect(await hold(40)).toMatchObject({ status: 'granted' });
    expect((await windowsOf(fixture, organization)).map(({ held }) => held)).toEqual([
      40, 40, 40, 40,
    ]);
    await expectWhole(fixture);
  });

  it('is in force for a budget from its first request on, usage of its window included', async () => {
    const user = await addPayer(fixture, 1_000);
    await ledger.recordUsage({ kilo_user_id: user, cost: 70, project_id: 'p' });
    await ledger.recordUsage({ kilo_user_id: user, cost: 5 });
    await ledger.recordUsage({ kilo_user_id: user, cost: 9, created_at: '2025-01-01T00:00:00Z' });
    expect(await ledger.hold(newHold(user, 10))).toMatchObject({ status: 'granted' });
    await addBudget(fixture, { scope: 'project', payer: { user }, project: 'p', limit: 100 });
    expect(await ledger.hold(newHold(user, 31, { project_id: 'p' }))).toMatchObject({
      status: 'refused',
      available_microdollars: 30,
    });
    expect(await ledger.hold(newHold(user, 30, { project_id: 'p' }))).toMatchObject({
      status: 'granted',
    });
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 84 }, { spent: 70, held: 30 }]);
    await expectWhole(fixture);
  });

  it('is one hold by its id: again is a duplicate, by another payer a conflict', async () => {
    const user = await addPayer(fixture, 1_000);
    const other = await addPayer(fixture, 1_000);
    const hold = newHold(user, 100);
    const answers = await Promise.all([ledger.hold(hold), ledger.hold(hold), ledger.hold(hold)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([
      'duplicate',
      'duplicate',
      'granted',
    ]);
    expect(await ledger.hold({ ...hold, amount: 900 })).toMatchObject({
      status: 'duplicate',
      amount: 100,
    });
    const conflict = await ledgerErrorOf(ledger.hold({ ...hold, kilo_user_id: other }));
    expect(conflict.code).toBe('idempotency_conflict');
    await ledger.settle(hold.id, { kilo_user_id: user, cost: 100 });
    await foldBudgets(ledger, { user });
    expect(await ledger.hold(hold)).toMatchObject({
      status: 'duplicate',
      amount: 0,
      created_at: answers[0]?.created_at,
    });
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 100, held: 0 }]);
    await expectWhole(fixture);
  });

  it('can be raised while it is open, and not past what is left', async () => {
    const user = await addPayer(fixture, 1_000);
    const { id } = await ledger.hold(newHold(user, 100));
    expect(await ledger.extend(id, 300)).toMatchObject({ status: 'granted', amount: 300 });
    expect(await ledger.extend(id, 300)).toMatchObject({ status: 'duplicate', amount: 300 });
    expect(await ledger.extend(id, 50)).toMatchObject({ status: 'duplicate', amount: 300 });
    expect(await ledger.extend(id, 1_001)).toMatchObject({
      status: 'refused',
      amount: 300,
      available_microdollars: 700,
    });
    expect(await ledger.extend(id, 1_000)).toMatchObject({
      status: 'granted',
      available_microdollars: 0,
    });
    await ledger.settle(id, { kilo_user_id: user, cost: 1_000 });
    expect((await ledgerErrorOf(ledger.extend(id, 2_000))).code).toBe('forbidden');
    expect((await ledgerErrorOf(ledger.extend(randomUUID(), 1))).code).toBe('not_found');
    await expectWhole(fixture);
  });

  it('can be released, once, and its money is there again', async () => {
    const user = await addPayer(fixture, 1_000);
    const { id } = await ledger.hold(newHold(user, 1_000));
    expect(await ledger.release(id)).toEqual({ id, status: 'released' });
    expect(await ledger.release(id)).toEqual({ id, status: 'duplicate' });
    expect(await ledger.hold(newHold(user, 1_000))).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
    expect((await ledgerErrorOf(ledger.release(randomUUID()))).code).toBe('not_found');
  });

  it('records usage that comes after its release: nothing is lost, and the limit is passed', async () => {
    const user = await addPayer(fixture, 100);
    const first = await ledger.hold(newHold(user, 100));
    await ledger.release(first.id);
    await foldBudgets(ledger, { user });
    const second = await ledger.hold(newHold(user, 100));
    expect(await ledger.settle(first.id, { kilo_user_id: user, cost: 100 })).toMatchObject({
      status: 'recorded',
    });
    await ledger.settle(second.id, { kilo_user_id: user, cost: 60 });
    expect(await ledger.hold(newHold(user, 1))).toMatchObject({
      status: 'refused',
      available_microdollars: 0,
    });
    expect(await windowsOf(fixture, user)).toMatchObject([{ limit: 100, spent: 160, carry: -60 }]);
    await expectIdentity(fixture);
  });

  it('sees a top-up at once, and one that is taken back with the next fold', async () => {
    const user = await addPayer(fixture, 100);
    expect(await ledger.hold(newHold(user, 150))).toMatchObject({ status: 'refused' });
    await acquire(fixture, { user }, 100);
    expect(await ledger.hold(newHold(user, 150))).toMatchObject({ status: 'granted' });
    await acquire(fixture, { user }, -120);
    await foldBudgets(ledger, { user });
    expect(await windowsOf(fixture, user)).toMatchObject([{ limit: 80, carry: -70, held: 150 }]);
    expect(await ledger.hold(newHold(user, 1))).toMatchObject({ status: 'refused' });
    await expectIdentity(fixture);
  });

  it('counts all that the balance counts, Exa and usage without a hold too', async () => {
    const user = await addPayer(fixture, 20_000_100);
    await fixture.rows(
      'update kilocode_users set opening_microdollars_used = 50, microdollars_used = 50 where id = $1',
      [user],
    );
    await ledger.recordExaUsage({ kilo_user_id: user, cost: 10_000_007, path: '/search' });
    await ledger.recordUsage({ kilo_user_id: user, cost: 10_000_000 });
    expect(await ledger.hold(newHold(user, 10_000_044))).toMatchObject({
      status: 'refused',
      available_microdollars: 10_000_043,
    });
    expect(await ledger.hold(newHold(user, 10_000_043))).toMatchObject({ status: 'granted' });
    await expectIdentity(fixture);
  });
});
