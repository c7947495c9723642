import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { checkInvariants, checkNeverExceeds } from '../support/checkInvariants.js';
import { addBudget, addPayer, expectWhole, foldBudgets, newHold } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** The checks are seen to find each kind of damage, and nothing where there is none. */
let fixture: LedgerFixture;
let ledger: Ledger;

beforeEach(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  const user = await addPayer(fixture, 1_000);
  await addBudget(fixture, { scope: 'user', payer: { user }, limit: 500 });
  const settled = await ledger.hold(newHold(user, 100));
  await ledger.settle(settled.id, { kilo_user_id: user, cost: 60 });
  await foldBudgets(ledger, { user });
  const open = await ledger.hold(newHold(user, 200));
  const uncounted = await ledger.hold(newHold(user, 50));
  await ledger.settle(uncounted.id, { kilo_user_id: user, cost: 40 });
  expect(open.status).toBe('granted');
  await expectWhole(fixture);
});

afterEach(() => fixture.close());

const OPEN = `from usage_holds as h
  where not exists (select from microdollar_usage as m where m.id = h.id)`;
const OF_DAY = `(select w.id from budget_windows w join budgets b on b.id = w.budget_id where b.period = 'day')`;

const DAMAGE: readonly { name: string; damage: string; found: RegExp[] }[] = [
  {
    name: 'a hold that is gone with what it reserved: a leak',
    damage: `delete ${OPEN}`,
    found: [/^I13 window .* off by -200$/, /^I13 window .* off by -200$/],
  },
  {
    name: 'a hold that gave back twice: a double release',
    damage: `update headroom set remaining_microdollars = remaining_microdollars + 200
      where window_id = ${OF_DAY} and slot = 3`,
    found: [/^I13 window .* off by 200$/],
  },
  {
    name: 'what a fold took away and did not give back: a lost return',
    damage: `delete from usage_holds as h
      where exists (select from microdollar_usage as m where m.id = h.id)`,
    found: [/off by -50$/, /off by -50$/],
  },
  {
    name: 'usage that a fold counted, and its mark did not pass',
    damage: `update budget_windows set spent_microdollars = spent_microdollars + 40,
      carry_microdollars = carry_microdollars - 40 where id = ${OF_DAY}`,
    found: [/^I13 window .* spent 100, but usage says 60$/],
  },
  {
    name: 'a mark that passed usage which was not counted',
    damage: `update rollup_marks set settled_below = settled_below + 1000 where rollup = 'budgets'`,
    found: [/spent 60, but usage says 100$/],
  },
  {
    name: 'a hold of a window that there is not',
    damage: `update usage_holds set window_ids = window_ids || 4711::bigint
      where id = (select h.id ${OPEN})`,
    found: [/^I13 hold .* window 4711 is not of its payer$/],
  },
];

describe('the check', () => {
  it.each(DAMAGE)('finds $name', async ({ damage, found }) => {
    await fixture.rows(damage);
    const violations = (await checkInvariants(fixture.database.pool)).filter((each) =>
      each.startsWith('I13'),
    );
    expect(violations).toHaveLength(found.length);
    violations.forEach((violation, index) => {
      expect(violation).toMatch(found[index] as RegExp);
    });
  });

  it('that nothing exceeds finds money that was given out before its usage was counted', async () => {
    // The identity holds all the while: it cannot tell early from in time.
    await fixture.rows(`with early as (
        delete from usage_holds as h
        where exists (select from microdollar_usage as m where m.id = h.id)
        returning h.window_ids, h.amount_microdollars
      )
      update budget_windows as w
      set carry_microdollars = w.carry_microdollars + e.amount_microdollars
      from early as e
      where w.id = any (e.window_ids)`);
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    const [{ kilo_user_id: user = '' } = {}] = await fixture.rows<{ kilo_user_id: string }>(
      'select kilo_user_id from usage_holds',
    );
    const left = 500 - 60 - 200;
    await fixture.rows(
      `insert into usage_holds (id, payer_scope, payer_id, kilo_user_id, amount_microdollars,
         window_ids, expires_at)
       values (gen_random_uuid(), 'user', $1, $1, $2, array(select id from budget_windows), now())`,
      [user, left],
    );
    expect(await checkNeverExceeds(fixture.database.pool)).toEqual([
      expect.stringMatching(/limit 500, spent 60, not counted 40, held 440$/),
    ]);
  });
});
