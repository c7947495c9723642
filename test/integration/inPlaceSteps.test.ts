import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isBlocked } from '../support/sessions.js';
import { type Account, AROUND, AT, DAY, Steps, USAGE_KINDS } from './settleHarness.js';

/** Writes in place, stepped beside appends and folds, in every order; nobody waits (I4). */
let steps: Steps;

beforeAll(async () => {
  steps = await Steps.open();
});
afterEach(() => steps.reset());
afterAll(() => steps[Symbol.asyncDispose]());

const positionsOf = ({ user }: Account) =>
  steps.fixture.rows(
    `select cost::integer, position < 0 as is_counted from microdollar_usage
     where kilo_user_id = $1 order by cost`,
    [user],
  );

describe.each(USAGE_KINDS)('$name, in place', (kind) => {
  const account = () => steps.account(kind);
  const holdDaily = (user: string): [string, unknown[]] => [
    'select from microdollar_usage_daily where kilo_user_id = $1 for update',
    [user],
  ];

  it('adds to both rows at its commit, and answers them with the tail beside', async () => {
    const { a, b } = steps.sessions;
    const payer = await account();
    expect(await steps.inPlace(a, payer, 10)).toBe(10);
    await steps.append(b, payer, 5);
    expect(await steps.inPlace(a, payer, -3)).toBe(12);
    expect(await positionsOf(payer)).toEqual([
      { cost: -3, is_counted: true },
      { cost: 5, is_counted: false },
      { cost: 10, is_counted: true },
    ]);
    await steps.expectExact();
    await steps.expectFolds(payer, 1);
  });

  it('beside a fold that holds the rows is appended, and right after its commit again', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 3);
    await f.run('begin');
    expect((await steps.fold(f, payer, AROUND)).settled).toBe(1);
    expect(await steps.inPlace(b, payer, 50)).toBe(null);
    await steps.expectExact();
    await f.run('commit');
    await steps.expectExact();
    expect(await steps.inPlace(b, payer, 60)).toBe(113);
    await steps.expectFolds(payer, 1);
  });

  it.each(['commit', 'rollback'])('open, a fold passes by; then its %s', async (end) => {
    const { a, b, f } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 6);
    await b.run('begin');
    expect(await steps.inPlace(b, payer, 5)).toBe(11);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ settled: 0, balance: 6 });
    expect(await isBlocked(steps.fixture.database.pool, f)).toBe(false);
    await steps.expectExact();
    await b.run(end);
    await steps.expectExact();
    await steps.expectFolds(payer, 1);
  });

  it('with a snapshot older than a fold adds to what that one left', async () => {
    const { a, b, g } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 7);
    const answer = await steps.betweenSnapshotAndLocks(
      b,
      () => steps.inPlace(b, payer, 20),
      async () => {
        await steps.append(a, payer, 9);
        expect((await steps.fold(g, payer, AROUND)).settled).toBe(2);
      },
    );
    // At least what was committed before it, at most what is by now.
    expect(answer).toBe(36);
    await steps.expectExact();
    await steps.expectFolds(payer, 0);
  });

  it('with a snapshot older than another write in place adds to it', async () => {
    const { a, b } = steps.sessions;
    const payer = await account();
    const answer = await steps.betweenSnapshotAndLocks(
      b,
      () => steps.inPlace(b, payer, 20),
      async () => {
        expect(await steps.inPlace(a, payer, 300)).toBe(300);
      },
    );
    expect(answer).toBe(320);
    await steps.expectExact();
    await steps.expectFolds(payer, 0);
  });

  it('commits between the snapshot and the locks of a fold, which adds to it', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 7);
    const older = await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, AROUND),
      async () => {
        expect(await steps.inPlace(b, payer, 20)).toBe(27);
        await steps.append(a, payer, 100);
      },
    );
    expect(older).toMatchObject({ depth: 1, settled: 1, balance: 27 });
    await steps.expectExact();
    await steps.expectFolds(payer, 1);
  });

  it.each([
    ['the daily row', (payer: Account) => holdDaily(payer.user)],
    [
      'the payer',
      (payer: Account): [string, unknown[]] => [
        `select from ${kind.scope.payers} where id::text = $1 for update`,
        [payer.payer],
      ],
    ],
  ] as const)('is appended where somebody holds %s', async (_, hold) => {
    const { a, b } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await a.run(...hold(payer));
    expect(await steps.inPlace(b, payer, 5)).toBe(null);
    await steps.expectExact();
    await a.run('commit');
    await steps.expectFolds(payer, 1);
  });

  it('is appended where the day has no row yet, and where a counter is full', async () => {
    const { b, g } = steps.sessions;
    const fresh = await steps.account(kind, { fresh: true });
    expect(await steps.inPlace(b, fresh, 5)).toBe(null);
    expect(await steps.fold(g, fresh, AROUND)).toMatchObject({ settled: 0, missing: 1 });
    const full = await account();
    await steps.fixture.rows(
      `update microdollar_usage_daily
       set total_cost_microdollars = 9200000000000000000, archived_cost_microdollars = 9200000000000000000
       where kilo_user_id = $1`,
      [full.user],
    );
    expect(await steps.inPlace(b, full, 5)).toBe(null);
    expect(await steps.fold(g, full, AROUND)).toMatchObject({ settled: 0 });
    const reported = await steps.fixture.rows(
      `select total_cost_microdollars as total from microdollar_usage_daily_exact
       where kilo_user_id = $1 and usage_date = $2`,
      [full.user, DAY],
    );
    expect(reported).toEqual([{ total: '9200000000000000005' }]);
    await steps.fixture.rows(
      `update microdollar_usage_daily
       set total_cost_microdollars = 0, archived_cost_microdollars = 0 where kilo_user_id = $1`,
      [full.user],
    );
    await steps.expectFolds(full, 1);
  });

  it('of a zero cost locks and moves nothing (I6)', async () => {
    const { a, b } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await a.run(...holdDaily(payer.user));
    expect(await steps.inPlace(b, payer, 0)).toBe(null);
    await a.run('commit');
    expect(await positionsOf(payer)).toEqual([{ cost: 0, is_counted: true }]);
    await steps.expectFolds(payer, 0);
  });

  it('a replay moves nothing', async () => {
    const { a } = steps.sessions;
    const payer = await account();
    const { insertUsageAndMetadataWithBalanceUpdate: insert } = await import(
      '../../src/record/onExecutor.js'
    );
    const id = await steps.append(a, payer, 5);
    const replay = {
      id,
      kilo_user_id: payer.user,
      organization_id: payer.organization,
      cost: 5,
      created_at: AT,
    };
    for (let round = 0; round < 3; round++) {
      const answer = await insert(steps.fixture.database.pool, replay);
      expect(answer).toMatchObject({ status: 'duplicate', new_microdollars_used: 5 });
      await steps.expectExact();
    }
    expect(await positionsOf(payer)).toHaveLength(1);
  });
});
