import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { listBudgets, removeBudget, setBudget } from '../../src/budgets/budgets.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { openSessions } from '../support/sessions.js';
import {
  acquire,
  addPayer,
  afterFirstFold,
  expectIdentity,
  expectWhole,
  foldBudgets,
} from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** A budget of a key binds what the key uses, whoever pays for it. */
let fixture: LedgerFixture;
let ledger: Ledger;
let user: string;
let organization: string;
let key: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open({ backgroundFold: false });
});
beforeEach(async () => {
  user = await addPayer(fixture, 10_000);
  organization = await fixture.addOrganization();
  await acquire(fixture, { organization }, 10_000);
  await addOrganizationMember(ledger.pool, organization, user);
  const wanted = { kilo_user_id: user, scopes: ['gateway' as const] };
  key = (await createApiKey(ledger.pool, wanted)).id;
});
afterEach(() => expectIdentity(fixture));
afterAll(() => fixture.close());

const store = () => ({ pool: ledger.pool, folder: ledger.budgetFolder });
const limit = (microdollars: number, mode = 'hard') =>
  setBudget(store(), {
    scope: 'key',
    id: key,
    limit_usd: String(microdollars / 1e6),
    window: 'month',
    mode,
  });
const personal = () => ({ kilo_user_id: user, api_key_id: key });
const paid = () => ({ ...personal(), organization_id: organization });
const hold = (who: object, amount: number, by = ledger) =>
  by.hold({ kilo_user_id: user, ...who, amount });
const ofKey = async () =>
  (await listBudgets(store(), { scope: 'user', id: user })).find(({ scope }) => scope === 'key');

describe('a budget of a key', () => {
  it('binds what an organization pays, and gives back what that did not use', async () => {
    const { id } = await limit(100);
    expect(await hold(personal(), 60)).toMatchObject({ status: 'granted' });
    expect(await hold(paid(), 41)).toMatchObject({
      status: 'refused',
      available_microdollars: 40,
      refused_by: { id, scope: 'key', limit_microdollars: 100 },
      resets_at: expect.any(String),
    });
    const held = await hold(paid(), 40);
    expect(held).toMatchObject({ status: 'granted', amount: 40 });
    expect(await hold(personal(), 1)).toMatchObject({ status: 'refused', refused_by: { id } });
    expect(await ofKey()).toMatchObject({ spent_microdollars: 0, held_microdollars: 100 });
    await ledger.settle(held.id, { ...paid(), cost: 30 });
    const after = { spent_microdollars: 30, held_microdollars: 60, available_microdollars: 10 };
    expect(await ofKey()).toMatchObject(after);
    await foldBudgets(ledger, { organization });
    expect(await ofKey()).toMatchObject(after);
    await expectWhole(fixture);
    expect(await hold(personal(), 11)).toMatchObject({ status: 'refused' });
    expect(await hold(paid(), 10)).toMatchObject({ status: 'granted' });
    expect(await ofKey()).toMatchObject({ available_microdollars: 0 });
    // Another key of the same user, for the same payer.
    expect(await hold({ organization_id: organization }, 500)).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });

  it('counts what was used before it was set, and what is used without a hold', async () => {
    await ledger.recordUsage({ ...paid(), cost: 70 });
    await ledger.recordUsage({ ...personal(), cost: 5 });
    expect(await limit(100)).toMatchObject({ spent_microdollars: 75 });
    await ledger.recordUsage({ ...paid(), cost: 20 });
    expect(await ofKey()).toMatchObject({ spent_microdollars: 95 });
    expect(await hold(personal(), 6)).toMatchObject({ status: 'granted' });
    await foldBudgets(ledger, { organization });
    await foldBudgets(ledger, { user });
    expect(await ofKey()).toMatchObject({ spent_microdollars: 95, held_microdollars: 6 });
    expect(await hold(paid(), 1)).toMatchObject({ status: 'refused' });
    await ledger.recordUsage({ ...paid(), cost: -10 });
    expect(await hold(paid(), 9)).toMatchObject({ status: 'granted' });
  });

  it('bounds an extension, and is let go by a release', async () => {
    await limit(100);
    const { id } = await hold(paid(), 10);
    expect(await ledger.extend(id, 101)).toMatchObject({
      status: 'refused',
      refused_by: { scope: 'key' },
    });
    expect(await ledger.extend(id, 100)).toMatchObject({ status: 'granted', amount: 100 });
    expect(await hold(personal(), 1)).toMatchObject({ status: 'refused' });
    await ledger.release(id);
    expect(await hold(personal(), 100)).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });

  it('that is soft is counted, and refuses nothing', async () => {
    await limit(100, 'soft');
    const { id } = await hold(paid(), 300);
    await ledger.settle(id, { ...paid(), cost: 250 });
    expect(await ofKey()).toMatchObject({ spent_microdollars: 250, overshoot_microdollars: 150 });
    await foldBudgets(ledger, { organization });
    await foldBudgets(ledger, { user });
    expect(await ofKey()).toMatchObject({ spent_microdollars: 250 });
  });

  it('that was removed binds nothing, and its holds come back to it', async () => {
    const { id } = await limit(100);
    const held = await hold(paid(), 100);
    await removeBudget(store(), id);
    expect(await hold(paid(), 500)).toMatchObject({ status: 'granted' });
    await ledger.settle(held.id, { ...paid(), cost: 1 });
    await foldBudgets(ledger, { organization });
    await foldBudgets(ledger, { user });
    expect(
      await fixture.rows('select id from usage_holds where id = $1 or expires_at = $2', [
        held.id,
        '-infinity',
      ]),
    ).toEqual([]);
  });

  it('is never passed by two payers and two processes at once, and is used up to its end', async () => {
    await limit(1_000);
    const other = await fixture.open({ backgroundFold: false });
    const spent: number[] = [];
    const run = async (by: Ledger, who: object) => {
      for (let turn = 0; turn < 25; turn++) {
        const held = await hold(who, 20 + turn, by);
        if (held.status !== 'granted') continue;
        if (turn % 5 === 0) {
          await by.release(held.id);
          continue;
        }
        const cost = Math.floor(held.amount / 2);
        await by.settle(held.id, { kilo_user_id: user, ...who, cost });
        spent.push(cost);
        if (turn % 4 === 0) await expectWhole(fixture);
      }
    };
    await Promise.all([ledger, other].flatMap((by) => [run(by, personal()), run(by, paid())]));
    const used = spent.reduce((sum, each) => sum + each, 0);
    expect(await ofKey()).toMatchObject({ spent_microdollars: used, held_microdollars: 0 });
    const left = 1_000 - used;
    expect(await hold(paid(), left + 1)).toMatchObject({ status: 'refused' });
    if (left > 0) expect(await hold(paid(), left)).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });

  it('is opened with what an organization counts at that time, once', async () => {
    await ledger.hold({ kilo_user_id: user, organization_id: organization, amount: 1 });
    const sessions = await openSessions(fixture.database.url, 1);
    const [session] = sessions.all;
    if (session === undefined) throw new Error('no session');
    try {
      await ledger.recordUsage({ ...paid(), cost: 40 });
      await session.run('begin');
      // As a fold of the organization has it.
      await session.run(
        `select from rollup_marks where rollup = 'budgets' and payer_id = '${organization}' for update`,
      );
      // The first fold is in vain, for the mark is held; then it is let go.
      const folds = afterFirstFold(ledger, () => session.run('commit'));
      expect(await limit(100)).toMatchObject({ spent_microdollars: 40 });
      expect(folds()).toBeGreaterThan(1);
      await foldBudgets(ledger, { organization });
      await foldBudgets(ledger, { user });
      expect(await ofKey()).toMatchObject({ spent_microdollars: 40 });
    } finally {
      await sessions.close();
    }
  });
});

it('of another id is no budget of this key', async () => {
  await limit(100);
  const stranger = { kilo_user_id: user, organization_id: organization, api_key_id: randomUUID() };
  expect(await hold(stranger, 500)).toMatchObject({ status: 'granted' });
});
