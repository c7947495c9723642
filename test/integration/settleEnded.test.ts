import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Account, AROUND, Steps, USAGE_KINDS } from './settleHarness.js';

/**
 * Folds that are ended, that run at other levels of isolation than theirs or beside them, whose payer
 * is gone, whose counter row two are opening: exact, or refused, and nobody is waited for.
 */
let steps: Steps;

beforeAll(async () => {
  steps = await Steps.open();
});
afterEach(() => steps.reset());
afterAll(() => steps[Symbol.asyncDispose]());

const countersOf = ({ user }: Account) =>
  steps.fixture.rows('select from microdollar_usage_daily where kilo_user_id = $1', [user]);

describe.each(USAGE_KINDS)('a fold of $name', (kind) => {
  it.each(['repeatable read', 'serializable'])(
    'that is newer than the snapshot of a writer at %s, who then writes and reads',
    async (level) => {
      const { a, b, f } = steps.sessions;
      const payer = await steps.account(kind);
      await steps.append(b, payer, 7);
      await a.run(`begin isolation level ${level}`);
      const reported = `select sum(total_cost_microdollars)::integer as total
        from microdollar_usage_daily_exact where kilo_user_id = $1`;
      expect(await a.run(reported, [payer.user])).toEqual([{ total: 7 }]);
      await steps.append(b, payer, 50);
      expect((await steps.fold(f, payer, AROUND)).settled).toBe(2);
      await steps.append(a, payer, 100);
      // Its own moment, and what it wrote itself.
      expect(await a.run(reported, [payer.user])).toEqual([{ total: 107 }]);
      await steps.append(b, payer, 500);
      await steps.fold(f, payer, AROUND);
      await steps.expectExact();
      expect(await a.run(reported, [payer.user])).toEqual([{ total: 107 }]);
      await a.run('commit');
      await steps.expectExact();
      await steps.expectFolds(payer, 1);
    },
  );

  it('of a payer who is gone by then counts for nobody, and fails nobody', async () => {
    const { a, b, f } = steps.sessions;
    const [gone, stays] = [await steps.account(kind), await steps.account(kind)];
    await steps.append(a, gone, 7);
    await steps.append(a, stays, 9);
    const row = await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, gone, AROUND),
      async () => {
        await b.run(`delete from ${kind.scope.payers} where id::text = $1`, [gone.payer]);
      },
    );
    expect(row).toMatchObject({ settled: 0 });
    const counted = `select total_cost_microdollars::integer as total
      from microdollar_usage_daily where kilo_user_id = $1`;
    expect(await steps.fixture.rows(counted, [gone.user])).toEqual([{ total: 0 }]);
    await steps.fixture.rows('delete from microdollar_usage where kilo_user_id = $1', [gone.user]);
    await steps.expectFolds(stays, 1);
  });

  it.each(['select pg_cancel_backend($1)', 'select pg_terminate_backend($1, 10000)'])(
    'that is ended before its locks, or after, changes nothing: %s',
    async (end) => {
      const { a, b } = steps.sessions;
      const payer = await steps.account(kind);
      await steps.append(a, payer, 7);
      for (const isAfter of [false, true]) {
        await using own = await steps.extraSession();
        const session = own.session;
        if (isAfter) {
          await session.run('begin');
          expect((await steps.fold(session, payer, AROUND)).settled).toBe(1);
          await b.run(end, [session.pid]);
          if (end.includes('cancel')) await session.run('rollback');
        } else {
          const failure = steps
            .betweenSnapshotAndLocks(
              session,
              () => steps.fold(session, payer, AROUND),
              async () => {
                await b.run(end, [session.pid]);
              },
            )
            .then(
              () => null,
              (error: Error) => error,
            );
          expect(await failure).toBeInstanceOf(Error);
        }
        await steps.expectExact();
      }
      await steps.expectFolds(payer, 1);
    },
  );

  it.each(['repeatable read', 'serializable'])(
    'at %s is exact, or refused by the database',
    async (level) => {
      const { a, b, f } = steps.sessions;
      const payer = await steps.account(kind);
      await steps.append(a, payer, 7);
      await f.run(`begin isolation level ${level}`);
      await f.run('select from ledger_settings');
      await steps.append(b, payer, 9);
      expect((await steps.fold(f, payer, AROUND)).settled).toBe(1);
      await f.run('commit');
      await steps.expectExact();
      await f.run(`begin isolation level ${level}`);
      await f.run('select from ledger_settings');
      await steps.append(b, payer, 11);
      await steps.expectFolds(payer, 2);
      await expect(steps.fold(f, payer, AROUND)).rejects.toMatchObject({ code: '40001' });
      await f.run('rollback');
      await steps.expectExact();
    },
  );
});

describe('a counter row', () => {
  it.each(['commit', 'rollback'])('opened by two at once, the first ends by %s', async (end) => {
    const { a, f, g } = steps.sessions;
    const [kind] = USAGE_KINDS;
    const payer = await steps.account(kind as (typeof USAGE_KINDS)[number], { fresh: true });
    await steps.append(a, payer, 7);
    const open = `select microdollar_open_daily($1, null, '2025-05-06') as opened`;
    await f.run('begin');
    expect(await f.run(open, [payer.user])).toEqual([{ opened: true }]);
    // Not waited for, whatever becomes of it.
    expect(await g.run(open, [payer.user])).toEqual([{ opened: false }]);
    expect(await steps.fold(g, payer, AROUND)).toMatchObject({ settled: 0, missing: 1 });
    await f.run(end);
    expect(await g.run(open, [payer.user])).toEqual([{ opened: end === 'rollback' }]);
    await steps.expectFolds(payer, 1);
    expect(await countersOf(payer)).toHaveLength(1);
  });
});
