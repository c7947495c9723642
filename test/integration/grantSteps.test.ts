import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { adjustUsage } from '../../src/accounts/adjust.js';
import { addCredit } from '../../src/accounts/credits.js';
import type { Withdrawals } from '../../src/accounts/grants/expirer.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { lockWaitsDuring, openSessions } from '../support/sessions.js';
import { expectWhole, newHold, windowsOf } from './budgetHarness.js';
import { acquiredBy, addGrant, ago, expirerOf, grantsOf, setExpiry } from './grantHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** An expiry that is stopped halfway, with all its locks, and what others do meanwhile. */
let fixture: LedgerFixture;
let ledger: Ledger;
let user: string;
let grant: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});

/** 500 that never expire, and 1,000 that do; of those 100 are used, the rest is due. */
beforeEach(async () => {
  user = await fixture.addUser();
  await addCredit(ledger.pool, { kilo_user_id: user, usd: '0.0005' });
  grant = await addGrant(ledger, { kilo_user_id: user }, 1_000);
  await ledger.recordUsage({ kilo_user_id: user, cost: 100, created_at: ago(60_000) });
  await ledger.hold(newHold(user, 0));
  await setExpiry(fixture, [grant], ago(10_000));
});

afterAll(() => fixture.close());

type Point = 'gather' | 'gathered' | 'distribute' | 'distributed';
const POINTS: readonly Point[] = ['gather', 'gathered', 'distribute', 'distributed'];

function gate<T>() {
  let open: (value: T) => void = () => {};
  const passed = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { open, passed };
}

/**
 * An expiry that stops at a point: the payer's row is locked at each of them, the slots from `gathered` on, and
 * what is written from `distribute` on.
 */
function stopAt(point: Point) {
  const stopped = gate<number>();
  const goOn = gate<void>();
  let gathers = 0;
  const pass = async (here: Point, pid: number) => {
    if (here !== point) return;
    stopped.open(pid);
    await goOn.passed;
  };
  const withdrawals: Withdrawals = {
    open: (scope, id) => ledger.budgetFolder.open(scope, id),
    async gather(query, scope, id) {
      const [row] = await query<{ pid: number }>({
        name: 'pid',
        text: 'select pg_backend_pid() as pid',
        values: [],
      });
      const pid = row?.pid ?? 0;
      const isFirst = gathers++ === 0;
      await pass(isFirst ? 'gather' : 'distribute', pid);
      const available = await ledger.budgetFolder.gather(query, scope, id);
      await pass(isFirst ? 'gathered' : 'distributed', pid);
      return available;
    },
  };
  const ended = expirerOf(ledger, withdrawals).expirePayer(USER_SCOPE, user);
  ended.catch(() => {});
  return {
    /** The expiry's backend, once it has stopped. */
    stopped: Promise.race([stopped.passed, ended.then(() => Promise.reject(new Error('ended')))]),
    end: async () => {
      goOn.open();
      return await ended;
    },
    goOn: () => goOn.open(),
    ended,
  };
}

const look = () => expirerOf(ledger).expirePayer(USER_SCOPE, user);

describe.each(POINTS)('an expiry stopped at %s', (point) => {
  it('delays no usage write, and what is recorded beside it counts by its time', async () => {
    const expiry = stopAt(point);
    await expiry.stopped;
    await ledger.recordUsage({ kilo_user_id: user, cost: 7 });
    await ledger.recordUsage({ kilo_user_id: user, cost: 30, created_at: ago(60_000) });
    expect(await expiry.end()).toHaveLength(1);
    await look();
    expect(await grantsOf(ledger, { kilo_user_id: user })).toEqual([
      { status: 'active', left: 493, used: 7, expired: 0 },
      { status: 'expired', left: 0, used: 130, expired: 870 },
    ]);
    expect(await acquiredBy(fixture, user)).toBe(1_500 - 870);
    await expectWhole(fixture);
  });

  it('delays no refund, which revives nothing', async () => {
    const usage = await ledger.recordUsage({ kilo_user_id: user, cost: 20 });
    const expiry = stopAt(point);
    await expiry.stopped;
    await adjustUsage(ledger, usage.id, '-0.000015');
    await expiry.end();
    await look();
    expect(await grantsOf(ledger, { kilo_user_id: user })).toEqual([
      { status: 'active', left: 495, used: 5, expired: 0 },
      { status: 'expired', left: 0, used: 100, expired: 900 },
    ]);
    await expectWhole(fixture);
  });

  it('is alone: another one does nothing, then or after', async () => {
    const expiry = stopAt(point);
    await expiry.stopped;
    expect(await look()).toBe('busy');
    expect(await expiry.end()).toMatchObject([{ kind: 'expiry', expired_microdollars: 900 }]);
    expect(await look()).toEqual([]);
    expect(await acquiredBy(fixture, user)).toBe(600);
    await expectWhole(fixture);
  });

  it('takes nothing that a hold beside it was granted, and lets none pass the limit', async () => {
    const expiry = stopAt(point);
    await expiry.stopped;
    const holding = ledger.hold(newHold(user, 1_200));
    // Before the slots are taken it is granted of the expired money; after, it waits for the rest.
    if (point === 'gather') await holding;
    await expiry.end();
    const hold = await holding;
    expect(hold.status).toBe(point === 'gather' ? 'granted' : 'refused');
    await expectWhole(fixture);
    const [balance] = await windowsOf(fixture, user);
    if (point === 'gather') {
      expect(balance).toMatchObject({ limit: 1_300, spent: 100, held: 1_200, carry: 0, slots: 0 });
      await ledger.release(hold.id);
      await look();
    } else expect(hold.available_microdollars).toBe(500);
    expect(await acquiredBy(fixture, user)).toBe(600);
    await expectWhole(fixture);
  });

  it('leaves nothing behind when it is killed, and is done by the next', async () => {
    const expiry = stopAt(point);
    const pid = await expiry.stopped;
    await fixture.rows('select pg_terminate_backend($1, 10000)', [pid]);
    expiry.goOn();
    await expect(expiry.ended).rejects.toThrow();
    expect(await acquiredBy(fixture, user)).toBe(1_500);
    await expectWhole(fixture);
    expect(await look()).toMatchObject([{ kind: 'expiry', expired_microdollars: 900 }]);
    await expectWhole(fixture);
  });

  it('and credit beside it come one after the other', async () => {
    const expiry = stopAt(point);
    await expiry.stopped;
    const added = addCredit(ledger.pool, { kilo_user_id: user, usd: '0.00001' });
    await expiry.end();
    expect((await added).total_microdollars_acquired).toBe(610);
    await expectWhole(fixture);
  });
});

describe('a hold from before the expiry', () => {
  it('keeps its part, whatever it then costs', async () => {
    const holds = await Promise.all([1, 2, 3].map(() => ledger.hold(newHold(user, 200))));
    await fixture.rows('update usage_holds set created_at = $2 where payer_id = $1', [
      user,
      ago(20_000),
    ]);
    const [first, second, third] = holds.map(({ id }) => id) as [string, string, string];
    expect(await look()).toMatchObject([{ expired_microdollars: 300 }]);
    await expectWhole(fixture);
    await ledger.settle(first, { kilo_user_id: user, cost: 150, created_at: ago(20_000) });
    expect(await look()).toMatchObject([{ kind: 'expiry_correction', expired_microdollars: 50 }]);
    await ledger.release(second);
    expect(await look()).toMatchObject([{ expired_microdollars: 200 }]);
    // More than it held: what the grant had is corrected, no more than had expired.
    await ledger.settle(third, { kilo_user_id: user, cost: 260, created_at: ago(20_000) });
    expect(await look()).toMatchObject([{ expired_microdollars: -60 }]);
    expect(await grantsOf(ledger, { kilo_user_id: user })).toMatchObject([
      { left: 500, used: 0 },
      { status: 'expired', left: 0, used: 510, expired: 490 },
    ]);
    await expectWhole(fixture);
  });
});

describe('an expiry that cannot be had', () => {
  it('waits for nobody: the payer, or its budgets, in an idle transaction', async () => {
    await using sessions = await openSessions(fixture.database.url, 1);
    const [holder] = sessions.all;
    const locks = [
      'select from kilocode_users where id = $1 for update',
      `select from rollup_marks where payer_id = $1 and rollup = 'budgets' for update`,
    ];
    for (const lock of locks) {
      await holder?.run('begin');
      await holder?.run(lock, [user]);
      let result: unknown;
      const waits = await lockWaitsDuring(fixture.database.pool, async () => {
        result = await look();
      });
      expect([result, waits]).toEqual(['busy', []]);
      expect(await acquiredBy(fixture, user)).toBe(1_500);
      await holder?.run('rollback');
    }
    // A slot in an idle transaction: that money stays, the rest goes.
    await holder?.run('begin');
    await holder?.run(
      `select from headroom where (window_id, slot) = (
         select h.window_id, h.slot from headroom h
         join budget_windows w on w.id = h.window_id join budgets b on b.id = w.budget_id
         where b.payer_id = $1 order by h.remaining_microdollars desc limit 1) for update`,
      [user],
    );
    await look();
    await holder?.run('rollback');
    await look();
    expect(await acquiredBy(fixture, user)).toBe(600);
    await expectWhole(fixture);
  });
});
