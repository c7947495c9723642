import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { SettleLimits } from '../../src/counter/settle.sql.js';
import { isBlocked } from '../support/sessions.js';
import { type Account, AROUND, BEHIND, KINDS, type Kind, Steps } from './settleHarness.js';

/**
 * R1, R2, R3, R5, stepped: two sessions write, two fold, by hand, for both logs and both kinds
 * of payers; a transaction that is open holds the mark, or becomes an exception. After each step
 * everything that is reported is what the sources say.
 */
let steps: Steps;

beforeAll(async () => {
  steps = await Steps.open();
});
afterEach(() => steps.reset());
afterAll(() => steps[Symbol.asyncDispose]());

const MODES: [name: string, limits: SettleLimits][] = [
  ['behind what is open', BEHIND],
  ['around what is open', AROUND],
];
const CASES = KINDS.flatMap((kind) => MODES.map(([mode, limits]) => ({ kind, mode, limits })));

describe.each(CASES)('$kind.name, folded $mode', ({ kind, limits }) => {
  const isAround = limits === AROUND;
  const account = () => steps.account(kind);

  it('a reader keeps its moment, before and after a fold', async () => {
    const { a, f, reader } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 10);
    const view = `
      select coalesce(sum(total_cost_microdollars), 0)::integer as total
      from ${kind.isExa ? 'exa_monthly_usage_exact' : 'microdollar_usage_daily_exact'}
      where kilo_user_id = $1`;
    await reader.run('begin isolation level repeatable read');
    expect(await reader.run(view, [payer.user])).toEqual([{ total: 10 }]);
    expect((await steps.fold(f, payer, limits)).settled).toBe(1);
    expect(await reader.run(view, [payer.user])).toEqual([{ total: 10 }]);
    await reader.run('commit');
    expect(await reader.run(view, [payer.user])).toEqual([{ total: 10 }]);
    await steps.expectFolds(payer, 0);
  });

  it.each(['commit', 'rollback'])('beside a write that is open, then its %s', async (end) => {
    const { a, b, f } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await steps.append(a, payer, 10);
    await steps.append(b, payer, 20);
    expect(await steps.fold(f, payer, limits)).toMatchObject({
      depth: 1,
      settled: isAround ? 1 : 0,
    });
    expect((await steps.mark(payer)).except).toHaveLength(isAround ? 1 : 0);
    await steps.expectExact();
    await a.run(end);
    await steps.expectExact();
    await steps.append(b, payer, 40);
    await steps.expectFolds(payer, (end === 'commit' ? 2 : 1) + (isAround ? 0 : 1));
  });

  it('a transaction id that was assigned long before its insert', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await a.run('select txid_current()');
    for (let round = 0; round < 20; round++) {
      await steps.append(b, payer, 1);
      await steps.fold(f, payer, limits);
    }
    await steps.expectExact();
    await steps.append(a, payer, 100);
    await steps.fold(f, payer, limits);
    await steps.expectExact();
    await a.run('commit');
    await steps.expectExact();
    await steps.expectFolds(payer, 1 + (isAround ? 0 : 20));
  });

  it('savepoints: a row is of the whole transaction', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await steps.append(a, payer, 1);
    await a.run('savepoint one');
    await steps.append(a, payer, 2);
    await a.run('savepoint two');
    await steps.append(a, payer, 4);
    await a.run('rollback to savepoint two');
    await steps.append(a, payer, 8);
    // Ids of subtransactions are below what is open by now.
    await steps.append(b, payer, 16);
    await steps.fold(f, payer, limits);
    await steps.expectExact();
    await a.run('release savepoint one');
    await steps.fold(f, payer, limits);
    await steps.expectExact();
    await a.run('commit');
    await steps.expectExact();
    await steps.expectFolds(payer, 3 + (isAround ? 0 : 1));
  });

  it.each(['commit', 'rollback'])(
    'a prepared transaction across folds, then its %s',
    async (end) => {
      const { a, b, f } = steps.sessions;
      const payer = await account();
      await a.run('begin');
      await steps.append(a, payer, 5);
      await a.run("prepare transaction 'p'");
      await steps.append(b, payer, 6);
      await steps.fold(f, payer, limits);
      await steps.expectExact();
      await steps.append(b, payer, 7);
      await steps.fold(f, payer, limits);
      await steps.expectExact();
      await b.run(`${end} prepared 'p'`);
      await steps.expectExact();
      await steps.append(b, payer, 8);
      await steps.expectFolds(payer, (end === 'commit' ? 2 : 1) + (isAround ? 0 : 2));
    },
  );

  it('a fold whose snapshot is older than what another fold committed', async () => {
    const { a, b, f, g } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 7);
    const older = await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, limits),
      async () => {
        await steps.append(b, payer, 9);
        // It is not held up: the older one has locked nothing yet.
        expect((await steps.fold(g, payer, limits)).settled).toBe(2);
        await steps.expectExact();
      },
    );
    expect(older).toMatchObject({ depth: 0, settled: 0 });
    await steps.expectExact();
    await steps.append(b, payer, 11);
    await steps.expectFolds(payer, 1);
  });

  it('an older snapshot that has something left to settle', async () => {
    const { a, b, f, g } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await steps.append(a, payer, 7);
    await steps.append(b, payer, 9);
    await a.run('commit');
    const older = await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, limits),
      async () => {
        await steps.append(b, payer, 11);
        // Only the first transaction's: the mark rises, and not past what the older one sees.
        expect((await steps.fold(g, payer, { ...limits, rowsPerPayer: 1 })).settled).toBe(1);
        await steps.expectExact();
      },
    );
    expect(older).toMatchObject({ depth: 1, settled: 1 });
    await steps.expectExact();
    await steps.expectFolds(payer, 1);
  });

  it('an older snapshot in which a transaction was open that another fold has settled', async () => {
    const { a, b, f, g } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await steps.append(a, payer, 100);
    await steps.append(b, payer, 1);
    await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, limits),
      async () => {
        await a.run('commit');
        await steps.append(b, payer, 2);
        expect((await steps.fold(g, payer, limits)).settled).toBe(3);
      },
    );
    // Below the locked mark nothing becomes an exception: it would be counted again.
    expect((await steps.mark(payer)).except).toEqual([]);
    await steps.expectExact();
    await steps.append(b, payer, 4);
    await steps.expectFolds(payer, 1);
  });

  it('an older snapshot that settles more beside what it saw open and another fold settled', async () => {
    const { a, b, f, g } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await steps.append(a, payer, 100);
    await steps.append(b, payer, 1);
    const older = await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, limits),
      async () => {
        await a.run('commit');
        expect((await steps.fold(g, payer, { ...AROUND, rowsPerPayer: 1 })).settled).toBe(1);
      },
    );
    expect(older).toMatchObject({ settled: isAround ? 1 : 0 });
    expect((await steps.mark(payer)).except).toEqual([]);
    await steps.expectExact();
    await steps.append(b, payer, 2);
    await steps.expectFolds(payer, isAround ? 1 : 2);
  });

  it('an older snapshot that knows an exception that another fold has settled', async () => {
    const { a, b, f, g } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await steps.append(a, payer, 100);
    await steps.append(b, payer, 1);
    await steps.fold(g, payer, AROUND);
    await steps.append(b, payer, 2);
    await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, limits),
      async () => {
        await a.run('commit');
        await steps.append(b, payer, 4);
        expect((await steps.fold(g, payer, AROUND)).settled).toBe(3);
      },
    );
    await steps.expectExact();
    await steps.append(b, payer, 8);
    await steps.expectFolds(payer, 1);
  });

  it('a newer fold made an exception that the older snapshot does not know', async () => {
    const { a, b, f, g } = steps.sessions;
    const payer = await account();
    await steps.append(b, payer, 1);
    await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, limits),
      async () => {
        await a.run('begin');
        await steps.append(a, payer, 100);
        await steps.append(b, payer, 2);
        expect((await steps.fold(g, payer, AROUND)).settled).toBe(2);
      },
    );
    await steps.expectExact();
    await a.run('commit');
    await steps.expectExact();
    await steps.expectFolds(payer, 1);
  });

  it('the mark only rises', async () => {
    const { a, b, f, g } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 7);
    let newer = 0n;
    await steps.betweenSnapshotAndLocks(
      f,
      () => steps.fold(f, payer, limits),
      async () => {
        await b.run('select txid_current()');
        await steps.append(b, payer, 9);
        await steps.fold(g, payer, limits);
        newer = (await steps.mark(payer)).below;
      },
    );
    expect((await steps.mark(payer)).below >= newer).toBe(true);
    await steps.expectExact();
  });

  it('an open transaction as an exception, then folded behind, then both', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await account();
    await a.run('begin');
    await steps.append(a, payer, 1);
    await steps.append(b, payer, 2);
    expect((await steps.fold(f, payer, AROUND)).settled).toBe(1);
    const { below, except } = await steps.mark(payer);
    await steps.append(b, payer, 4);
    await steps.fold(f, payer, BEHIND);
    // It is below the mark: it cannot hold it, and it stays an exception.
    expect((await steps.mark(payer)).except).toEqual(except);
    expect((await steps.mark(payer)).below >= below).toBe(true);
    await steps.expectExact();
    await steps.append(b, payer, 8);
    await steps.fold(f, payer, AROUND);
    await steps.expectExact();
    await a.run('commit');
    await steps.expectExact();
    await steps.append(b, payer, 16);
    await steps.fold(f, payer, limits);
    await steps.expectExact();
    expect((await steps.fold(f, payer, limits)).depth).toBe(0);
  });

  it('two folds at once: one waits for nothing, and both leave it exact', async () => {
    const { a, f, g } = steps.sessions;
    const payer = await account();
    await steps.append(a, payer, 3);
    await f.run('begin');
    expect((await steps.fold(f, payer, limits)).settled).toBe(1);
    // The row is held: the second answers without it.
    expect(await steps.fold(g, payer, limits)).toMatchObject({ depth: 1, settled: 0 });
    expect(await isBlocked(steps.fixture.database.pool, g)).toBe(false);
    await steps.expectExact();
    await f.run('rollback');
    await steps.expectExact();
    await steps.expectFolds(payer, 1);
  });
});

describe('transactions of both logs', () => {
  it('have a mark each: what is open in one does not hold the other', async () => {
    const { a, b, f } = steps.sessions;
    const [usage, , exa] = KINDS as [Kind, Kind, Kind];
    const payer = await steps.account(usage);
    const ofExa: Account = { ...payer, kind: exa };
    await a.run('begin');
    await steps.append(a, payer, 1);
    await steps.append(a, ofExa, 100);
    await steps.append(b, payer, 2);
    await steps.append(b, ofExa, 200);
    await steps.fold(f, payer, AROUND);
    await steps.expectExact();
    await steps.fold(f, ofExa, BEHIND);
    await steps.expectExact();
    await a.run('commit');
    await steps.expectExact();
    await steps.expectFolds(ofExa, 2);
    await steps.expectFolds(payer, 1);
  });
});
