import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { changeBudget, setBudget } from '../../src/budgets/budgets.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { openSessions, type Session } from '../support/sessions.js';
import { budgetStore } from './alertHarness.js';
import { addPayer, expectWhole, newHold, windowsOf } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

/** A limit that became lower, and no fold has taken it in: nobody reserves what is left in the slots of it. */
let fixture: LedgerFixture;
let ledger: Ledger;
let user: string;
let budgetId: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});
beforeEach(async () => {
  user = await addPayer(fixture, 2_000);
  const wanted = { scope: 'user', id: user, limit_usd: '0.001', window: 'month' };
  budgetId = (await setBudget(budgetStore(ledger), wanted)).id;
  await ledger.hold(newHold(user, 100));
});
afterAll(() => fixture.close());

const raise = () =>
  changeBudget(budgetStore(ledger), budgetId, {
    raise_usd: '0.0005',
    raise_until: new Date(Date.now() + 3_600_000).toISOString(),
  });
const endRaise = () =>
  fixture.rows(`update budgets set raise_until = now() - interval '1 second' where id = $1`, [
    budgetId,
  ]);
const refused = (left: number) => ({ status: 'refused', available_microdollars: left });

describe('a raise that has ended', () => {
  beforeEach(async () => {
    await raise();
    expect(await ledger.hold(newHold(user, 1_000))).toMatchObject({ status: 'granted' });
    const holds = await fixture.rows<{ id: string }>(
      'select id from usage_holds where payer_id = $1 and amount_microdollars = 1000',
      [user],
    );
    await ledger.release(holds[0]?.id ?? '');
    await ledger.keepBudgets();
    expect(await windowsOf(fixture, user)).toMatchObject([{}, { limit: 1_500, held: 100 }]);
    await endRaise();
  });

  it('lets no hold pass the limit, before any fold', async () => {
    expect(await ledger.hold(newHold(user, 901))).toMatchObject(refused(900));
    expect(await ledger.hold(newHold(user, 900))).toMatchObject({ status: 'granted' });
    expect(await windowsOf(fixture, user)).toMatchObject([{}, { limit: 1_000, held: 1_000 }]);
    await expectWhole(fixture);
  });

  it('lets no extension pass it', async () => {
    const [hold] = await fixture.rows<{ id: string }>(
      'select id from usage_holds where payer_id = $1 and amount_microdollars = 100',
      [user],
    );
    const id = hold?.id ?? '';
    expect(await ledger.extend(id, 1_001)).toMatchObject(refused(900));
    expect(await ledger.extend(id, 1_000)).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });
});

describe('a limit that is lowered', () => {
  it('while somebody keeps the budgets of the payer is in force with the next hold', async () => {
    await using sessions = await openSessions(fixture.database.url, 1);
    const [holder] = sessions.all as [Session];
    await holder.run('begin');
    await holder.run('select from rollup_marks where payer_id = $1 for update', [user]);
    await changeBudget(budgetStore(ledger), budgetId, { limit_usd: '0.0001' });
    expect(await windowsOf(fixture, user)).toMatchObject([{}, { limit: 1_000 }]);
    expect(await ledger.hold(newHold(user, 1))).toMatchObject(refused(0));
    await changeBudget(budgetStore(ledger), budgetId, { limit_usd: '0.0004' });
    // What is left cannot be told from what is not before a fold.
    expect(await ledgerErrorOf(ledger.hold(newHold(user, 300)))).toMatchObject({
      code: 'unavailable',
      retryable: true,
    });
    await holder.run('rollback');
    expect(await ledger.hold(newHold(user, 300))).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });
});

describe('credit that is taken back', () => {
  it('is not held from, before any fold', async () => {
    await addCredit(ledger.pool, { kilo_user_id: user, usd: '-0.00189' });
    expect(await ledger.hold(newHold(user, 11))).toMatchObject(refused(10));
    expect(await ledger.hold(newHold(user, 10))).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });
});
