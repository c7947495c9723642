import { randomUUID } from 'node:crypto';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  onTestFinished,
  vi,
} from 'vitest';
import { foldBudgetsStatement } from '../../src/budgets/fold.sql.js';
import {
  type ExtendedRow,
  extendHoldStatement,
  type ReleasedRow,
  releaseHoldStatement,
} from '../../src/budgets/hold.sql.js';
import { lockBudgetsStatement, openWindowsStatement } from '../../src/budgets/openWindows.sql.js';
import { type ReservedRow, reserveStatement } from '../../src/budgets/reserve.sql.js';
import {
  type ReservedAlikeRow,
  reserveAlikeStatement,
} from '../../src/budgets/reserveAlike.sql.js';
import type { Statement } from '../../src/db/statement.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { validateEvent } from '../../src/record/event.js';
import { SLOTS } from '../../src/schema/budgets.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { lockWaitsDuring, openSessions, type Session, type Sessions } from '../support/sessions.js';
import {
  acquire,
  addBudget,
  addPayer,
  afterFirstFold,
  expectWhole,
  foldBudgets,
  newHold,
  windowsOf,
} from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** Two sessions, step by step: what one has not committed, the other goes around. */
let fixture: LedgerFixture;
let ledger: Ledger;
let sessions: Sessions;
let user: string;
let a: Session;
let b: Session;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});

beforeEach(async () => {
  sessions = await openSessions(fixture.database.url, 2);
  [a, b] = sessions.all as [Session, Session];
  user = await addPayer(fixture, 1_000);
  await ledger.hold(newHold(user, 0));
});

afterEach(() => sessions.close());
afterAll(() => fixture.close());

const run = <Row>(session: Session, { text, values }: Statement) =>
  session.run<Row>(text, values as unknown[]);

async function reserve(session: Session, amount: number, id: string = randomUUID()) {
  const who = { id, kilo_user_id: user, api_key_id: null, project_id: null };
  const request = { ...who, amount, owner: null, expires_in_ms: 60_000 };
  const [row] = await run<ReservedRow>(session, reserveStatement(USER_SCOPE, user, [request], 0));
  return { id, status: row?.status };
}

/** By the statement for requests that are alike. */
async function reserveAlike(session: Session, amount: number) {
  const who = { id: randomUUID(), kilo_user_id: user, api_key_id: null, project_id: null };
  const request = { ...who, amount, owner: null, expires_in_ms: 60_000 };
  const statement = reserveAlikeStatement(USER_SCOPE, user, [request], 0);
  const [row] = await run<ReservedAlikeRow>(session, statement);
  return row !== undefined;
}

async function settle(session: Session, id: string, cost: number) {
  const event = validateEvent({ id, kilo_user_id: user, cost }, { nulBytesRemoved: 0 });
  await run(session, appendUsageStatement(event, { metadata: null, isKnown: true }));
}

/** Statements of a fold; the mark is free? */
async function fold(session: Session, rows = 1_000): Promise<boolean> {
  const isLocked = (await run(session, lockBudgetsStatement(USER_SCOPE, user))).length === 1;
  if (!isLocked) return false;
  await run(session, openWindowsStatement(USER_SCOPE, user));
  const limits = { rows, slots: SLOTS, asked: 0 };
  await run(session, foldBudgetsStatement(USER_SCOPE, user, limits));
  return true;
}

const extend = async (session: Session, id: string, amount: number) =>
  (await run<ExtendedRow>(session, extendHoldStatement(id, amount, 0)))[0]?.status;
const release = async (session: Session, id: string) =>
  (await run<ReleasedRow>(session, releaseHoldStatement(id)))[0]?.status;

/** Runs work that must not wait for a lock. */
async function withoutWaiting<T>(work: () => Promise<T>): Promise<T> {
  let result: T | undefined;
  const waits = await lockWaitsDuring(fixture.database.pool, async () => {
    result = await work();
  });
  expect(waits.filter(({ query }) => /microdollar\./.test(query))).toEqual([]);
  return result as T;
}

/** All is settled and folded: what is left is what was not spent. */
async function expectLeft(spent: number, held = 0): Promise<void> {
  await foldBudgets(ledger, { user });
  await expectWhole(fixture);
  const [balance] = await windowsOf(fixture, user);
  const { limit = 0, carry = 0, slots = 0 } = balance ?? {};
  expect(balance).toMatchObject({ spent, held });
  expect(carry + slots).toBe(limit - spent - held);
}

describe('a fold', () => {
  it('goes around a slot that an open reservation has, either way it ends', async () => {
    for (const end of ['commit', 'rollback']) {
      await a.run('begin');
      const { id, status } = await reserve(a, 100);
      expect(status).toBe('granted');
      await withoutWaiting(() => ledger.budgetFolder.foldFor(USER_SCOPE, user, 0));
      await expectWhole(fixture);
      await a.run(end);
      await expectWhole(fixture);
      if (end === 'commit') await ledger.release(id);
    }
    await expectLeft(0);
  });

  it('leaves a hold whose usage is in flight, and takes it with the fold that counts it', async () => {
    const { id } = await ledger.hold(newHold(user, 100));
    await a.run('begin');
    await settle(a, id, 70);
    await withoutWaiting(() => foldBudgets(ledger, { user }));
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 0, held: 100 }]);
    await a.run('commit');
    await expectWhole(fixture);
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 0, held: 100 }]);
    await expectLeft(70);
  });

  it('counts once what is recorded while it is open itself', async () => {
    const { id } = await ledger.hold(newHold(user, 100));
    await a.run('begin');
    expect(await fold(a)).toBe(true);
    await withoutWaiting(() => settle(b, id, 100));
    expect(await withoutWaiting(() => fold(b))).toBe(false);
    await expectWhole(fixture);
    await a.run('commit');
    await expectLeft(100);
  });

  it('that counts a part of the usage keeps the holds of the rest', async () => {
    const first = await ledger.hold(newHold(user, 100));
    const second = await ledger.hold(newHold(user, 100));
    await settle(b, first.id, 70);
    await settle(b, second.id, 60);
    await a.run('begin');
    await fold(a, 1);
    await a.run('commit');
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 70, held: 100 }]);
    await expectWhole(fixture);
    await expectLeft(130);
  });

  it('that is rolled back has given nothing back, and taken nothing away', async () => {
    const { id } = await ledger.hold(newHold(user, 100));
    await settle(b, id, 10);
    await a.run('begin');
    await fold(a);
    await a.run('rollback');
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 0, held: 100 }]);
    await expectLeft(10);
  });

  it('takes a hold away later where an extension has it, and counts its usage now', async () => {
    const { id } = await ledger.hold(newHold(user, 100));
    await a.run('begin');
    expect(await extend(a, id, 150)).toBe('granted');
    await settle(b, id, 90);
    await withoutWaiting(() => foldBudgets(ledger, { user }));
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 90, held: 100 }]);
    await expectWhole(fixture);
    await a.run('commit');
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 90, held: 150 }]);
    await expectWhole(fixture);
    await expectLeft(90);
  });

  it('has a hold that an extension and a release then go around', async () => {
    const { id } = await ledger.hold(newHold(user, 100));
    await settle(b, id, 90);
    await a.run('begin');
    await fold(a);
    expect(await withoutWaiting(() => extend(b, id, 300))).toBe('settled');
    expect(await withoutWaiting(() => release(b, id))).toBe('settled');
    await a.run('commit');
    await expectLeft(90);
  });

  it('gives a released hold back once, though its usage comes before or after', async () => {
    const before = await ledger.hold(newHold(user, 100));
    await a.run('begin');
    expect(await release(a, before.id)).toBe('released');
    await settle(b, before.id, 60);
    await withoutWaiting(() => foldBudgets(ledger, { user }));
    await expectWhole(fixture);
    await a.run('commit');
    await expectLeft(60);

    const after = await ledger.hold(newHold(user, 100));
    await b.run('begin');
    await settle(b, after.id, 50);
    await ledger.release(after.id);
    await withoutWaiting(() => foldBudgets(ledger, { user }));
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 60, held: 0 }]);
    await b.run('commit');
    await expectLeft(110);
  });

  it('opens a window beside a top-up in flight, which the next one takes in', async () => {
    await addBudget(fixture, { scope: 'user', payer: { user }, limit: 500 });
    await a.run('begin');
    await a.run(
      `update kilocode_users set total_microdollars_acquired = total_microdollars_acquired + 500
       where id = $1`,
      [user],
    );
    await withoutWaiting(() => foldBudgets(ledger, { user }));
    expect(await windowsOf(fixture, user)).toMatchObject([{ limit: 1_000 }, { limit: 500 }]);
    await a.run('commit');
    await expectWhole(fixture);
    await foldBudgets(ledger, { user });
    expect(await windowsOf(fixture, user)).toMatchObject([{ limit: 1_500 }, { limit: 500 }]);
    await expectWhole(fixture);
  });

  it('sums for a new window what the mark has passed, and counts what was in flight once', async () => {
    await ledger.recordUsage({ kilo_user_id: user, cost: 30 });
    await a.run('begin');
    await settle(a, randomUUID(), 40);
    await addBudget(fixture, { scope: 'user', payer: { user }, limit: 500 });
    await foldBudgets(ledger, { user });
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 30 }, { spent: 30 }]);
    await a.run('commit');
    await expectWhole(fixture);
    await foldBudgets(ledger, { user });
    expect(await windowsOf(fixture, user)).toMatchObject([{ spent: 70 }, { spent: 70 }]);
    await expectWhole(fixture);
  });
});

describe('a reservation', () => {
  it('takes another slot beside one that is open, from what is there', async () => {
    await foldBudgets(ledger, { user });
    await a.run('begin');
    expect((await reserve(a, 10)).status).toBe('granted');
    expect((await withoutWaiting(() => reserve(b, 10))).status).toBe('granted');
    await a.run('rollback');
    await expectWhole(fixture);
  });

  it('of requests that are alike goes around what is open, and takes all or nothing', async () => {
    await foldBudgets(ledger, { user });
    for (const end of ['commit', 'rollback']) {
      await a.run('begin');
      expect(await reserveAlike(a, 10)).toBe(true);
      expect(await withoutWaiting(() => reserveAlike(b, 10))).toBe(true);
      await withoutWaiting(() => ledger.budgetFolder.foldFor(USER_SCOPE, user, 0));
      await a.run(end);
      await expectWhole(fixture);
    }
    await expectLeft(0, 30);
    expect(await reserveAlike(b, 971)).toBe(false);
    await expectLeft(0, 30);
  });

  it('is decided by the newest version of a slot, not by that of its snapshot', async () => {
    await fixture.rows(
      `update headroom set remaining_microdollars = 0 where window_id = any (
         select w.id from budget_windows w join budgets b on b.id = w.budget_id where b.payer_id = $1)`,
      [user],
    );
    await fixture.rows(
      `update budget_windows set carry_microdollars = 1000 where budget_id = any (
         select id from budgets where payer_id = $1)`,
      [user],
    );
    // A fold fills slots that the snapshot of a reservation shows as nearly empty, or empties them.
    await foldBudgets(ledger, { user });
    const statuses = await Promise.all(
      Array.from({ length: 30 }, async (_, n) =>
        n % 3 === 0
          ? ledger.budgetFolder.foldFor(USER_SCOPE, user, n)
          : ledger.hold(newHold(user, 50)),
      ),
    );
    expect(statuses).toHaveLength(30);
    await expectWhole(fixture);
    expect(await windowsOf(fixture, user)).toMatchObject([{ held: 1_000, slots: 0, carry: 0 }]);
  });
});

describe('a debt', () => {
  it('stops who would take from a slot that does not know of it', async () => {
    await foldBudgets(ledger, { user });
    await a.run('begin');
    expect((await reserve(a, 1)).status).toBe('granted');
    await ledger.recordUsage({ kilo_user_id: user, cost: 1_000 });
    await foldBudgets(ledger, { user });
    await a.run('rollback');
    const [balance] = await windowsOf(fixture, user);
    expect(balance?.slots).toBeGreaterThan(0);
    expect(balance?.carry).toBe(-(balance?.slots ?? 0));
    expect((await reserve(b, 1)).status).toBe('short');
    expect(await ledger.hold(newHold(user, 1))).toMatchObject({ status: 'refused' });
    await expectLeft(1_000);
  });
});

describe('a refusal', () => {
  it('waits a little for who has a slot, for it may give back what is in there', async () => {
    await foldBudgets(ledger, { user });
    await a.run('begin');
    expect((await reserve(a, 10)).status).toBe('granted');
    // Right after the first fold, which had all slots but one: later its tries may be over.
    const folds = afterFirstFold(ledger, async (windows) => {
      expect(windows?.every(({ slots }) => slots < SLOTS)).toBe(true);
      await a.run('rollback');
    });
    expect(await ledger.hold(newHold(user, 1_000))).toMatchObject({ status: 'granted' });
    expect(folds()).toBeGreaterThan(0);
    await expectWhole(fixture);
  });
});

describe('a hold that another transaction has for a while', () => {
  it('is extended, and another released, once it lets go of them', async () => {
    const holds = [await ledger.hold(newHold(user, 100)), await ledger.hold(newHold(user, 100))];
    const [extended = '', released = ''] = holds.map(({ id }) => id);
    await a.run('begin');
    await a.run('select from usage_holds for update');
    // Patience is by this clock: on a busy machine it might be over before the rollback.
    const clock = vi.spyOn(performance, 'now').mockReturnValue(performance.now());
    onTestFinished(() => clock.mockRestore());
    const asked = [ledger.extend(extended, 300), ledger.release(released)];
    await a.run('select pg_sleep(1.5)');
    await a.run('rollback');
    const answers = await Promise.all(asked);
    expect(answers.map(({ status }) => status)).toEqual(['granted', 'released']);
    await expectWhole(fixture);
  });

  it('keeps nobody of its payer waiting but who asks for its id', async () => {
    await a.run('begin');
    const { id, status } = await reserve(a, 10);
    expect(status).toBe('granted');
    const clock = vi.spyOn(performance, 'now').mockReturnValue(performance.now());
    onTestFinished(() => clock.mockRestore());
    const held = ledger.hold({ ...newHold(user, 10), id });
    const beside = [ledger.hold(newHold(user, 20)), ledger.hold(newHold(user, 30))];
    for (const one of beside) expect(await one).toMatchObject({ status: 'granted' });
    expect(await ledger.hold(newHold(user, 40))).toMatchObject({ status: 'granted' });
    await a.run('commit');
    expect(await held).toMatchObject({ id, status: 'duplicate', amount: 10 });
    await expectWhole(fixture);
  });

  it.each(['before', 'after'])('hears of no failure beside it %s its id is free', async (when) => {
    await a.run('begin; select from headroom where slot = 0 for update; savepoint s');
    const { id } = await reserve(a, 10);
    vi.spyOn(ledger.budgetFolder, 'foldFor').mockImplementationOnce(async () => {
      // Its id is free, and no slot is: it comes back to the others.
      if (when === 'after') await b.run('begin; select from headroom where slot > 0 for update');
      if (when === 'after') await a.run('rollback to s; select pg_sleep(0.5)');
      throw new Error('lost');
    });
    const held = ledger.hold({ ...newHold(user, 10), id });
    await expect(ledger.hold(newHold(user, 1_000_000_000))).rejects.toThrow();
    await Promise.all([a.run('rollback'), b.run('rollback')]);
    expect(await held).toMatchObject({ id, status: 'granted', amount: 10 });
    await expectWhole(fixture);
  });
});

describe('an idle transaction', () => {
  const granted = { status: 'granted' };

  it('that holds a slot delays nobody, and keeps no more than that slot', async () => {
    await foldBudgets(ledger, { user });
    await a.run('begin');
    const [slot] = await a.run<{ remaining: number }>(
      `select h.remaining_microdollars::float as remaining from headroom h
       where h.window_id = (select max(w.id) from budget_windows w) and h.slot = 0 for update`,
    );
    const rest = 1_000 - (slot?.remaining ?? 0);
    expect(await withoutWaiting(() => ledger.hold(newHold(user, rest)))).toMatchObject(granted);
    await a.run('rollback');
    await expectLeft(0, rest);
  });

  it.each([
    ['the mark', "select from rollup_marks where rollup = 'budgets' for update"],
    ['a budget', 'select from budgets for update'],
    ['the payer', 'select from kilocode_users for update'],
    ['a window', 'select from budget_windows for update'],
  ])('that holds %s delays nobody who asks for what the slots have', async (_, text) => {
    await a.run('begin');
    await a.run(text);
    const { id, ...hold } = await withoutWaiting(() => ledger.hold(newHold(user, 10)));
    expect(hold).toMatchObject(granted);
    await withoutWaiting(() => ledger.extend(id, 20));
    await withoutWaiting(() => ledger.settle(id, { kilo_user_id: user, cost: 5 }));
    // Past the limit it is a refusal, as ever: decided by what can be read.
    expect(await ledger.hold(newHold(user, 2_000))).toMatchObject({
      status: 'refused',
      available_microdollars: 995,
    });
    await a.run('rollback');
    await expectLeft(5);
  });
});

describe('the top-up of a payer', () => {
  it('that is in flight delays no hold', async () => {
    await a.run('begin');
    await a.run('update kilocode_users set total_microdollars_acquired = 5000 where id = $1', [
      user,
    ]);
    expect(await withoutWaiting(() => ledger.hold(newHold(user, 1_001)))).toMatchObject({
      status: 'refused',
    });
    await a.run('commit');
    await acquire(fixture, { user }, 0);
    expect(await ledger.hold(newHold(user, 5_000))).toMatchObject({ status: 'granted' });
    await expectWhole(fixture);
  });
});
