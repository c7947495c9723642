import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openCountersStatement } from '../../src/counter/openCounters.sql.js';
import { settleStatement } from '../../src/counter/settle.sql.js';
import { Settler } from '../../src/counter/settler.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Statement } from '../../src/db/statement.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { EXA_LOG, USAGE_LOG, USER_SCOPE } from '../../src/schema/unsettled.js';
import { openPool } from '../support/openPool.js';
import {
  type Account,
  AROUND,
  AT,
  BEHIND,
  DAY,
  FORGET_GENERATION,
  KINDS,
  type Kind,
  Steps,
} from './settleHarness.js';

/** R2, R4, R8: what a fold may leave, and how. */
let steps: Steps;

beforeAll(async () => {
  steps = await Steps.open();
});
afterEach(() => steps.reset());
afterAll(() => steps[Symbol.asyncDispose]());

const [OF_USER, OF_ORGANIZATION, EXA_OF_USER] = KINDS as [Kind, Kind, Kind];
const periodOf = (kind: Kind) =>
  kind.isExa
    ? { table: 'exa_monthly_usage', later: '2025-06-06T00:00:00Z', column: 'month' }
    : { table: 'microdollar_usage_daily', later: '2025-05-07T00:00:00Z', column: 'usage_date' };

/** Rows of one transaction, so of one position. */
const appendMany = (account: Account, count: number, cost: number) =>
  steps.fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at, position)
     select gen_random_uuid(), $1, $2, $3, $4, microdollar_position()
     from generate_series(1, $5::integer)`,
    [account.user, account.organization, cost, AT, count],
  );

describe.each(KINDS)('a counter row that somebody holds: $name', (kind) => {
  const { table, later, column } = periodOf(kind);

  it('keeps its payer as it was, all of it, exact; neighbours are settled (R4)', async () => {
    const { a, b, f } = steps.sessions;
    const [payer, neighbour] = [await steps.account(kind), await steps.account(kind)];
    for (const each of [payer, neighbour]) {
      await steps.append(a, each, 7);
      await steps.append(a, each, 70, later);
      await open(kind, each);
    }
    await b.run('begin');
    await b.run(`select from ${table} where kilo_user_id = $1 and ${column} < $2 for update`, [
      payer.user,
      later,
    ]);
    const before = await steps.mark(payer);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ depth: 2, settled: 0, missing: 0 });
    expect(await steps.mark(payer)).toEqual(before);
    expect(await steps.fold(f, neighbour, AROUND)).toMatchObject({ depth: 2, settled: 2 });
    await steps.expectExact();
    await steps.append(a, payer, 700, later);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ depth: 3, settled: 0 });
    await steps.expectExact();
    await b.run('commit');
    await steps.expectFolds(payer, 3);
  });

  it('that is missing is opened in a transaction of its own, at zero (R8)', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await steps.account(kind, { fresh: true });
    await steps.append(a, payer, 7);
    await steps.append(a, payer, 70, later);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ settled: 0, missing: 2 });
    // Somebody is creating one of them: it is left, and what it belongs to with it.
    await b.run('begin');
    const allowance = kind.isExa ? ', free_allowance_microdollars' : '';
    await b.run(
      `insert into ${table} (kilo_user_id, organization_id, ${column}${allowance})
       values ($1, $2, '${kind.isExa ? '2025-05-01' : DAY}'${kind.isExa ? ', 5' : ''})`,
      [payer.user, payer.organization],
    );
    await open(kind, payer);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ settled: 0 });
    await steps.expectExact();
    await b.run('commit');
    await open(kind, payer);
    await steps.expectFolds(payer, 2);
  });
});

async function open(kind: Kind, account: Account): Promise<void> {
  const log = kind.isExa ? EXA_LOG : USAGE_LOG;
  const { text, values } = openCountersStatement(log, kind.scope, [account.payer]);
  await steps.sessions.f.run(text, values);
}

describe('a sum of zero', () => {
  it('settles: the mark passes it, and no counter row is needed or touched', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(OF_USER, { fresh: true });
    for (const cost of [5, -5, 0]) await steps.append(a, payer, cost);
    // The zero has no position, so nothing to settle (I6).
    expect(await steps.fold(f, payer, AROUND)).toEqual({
      depth: 2,
      settled: 2,
      missing: 0,
      balance: 0,
    });
    const daily = 'select from microdollar_usage_daily where kilo_user_id = $1';
    expect(await steps.fixture.rows(daily, [payer.user])).toEqual([]);
    await steps.expectFolds(payer, 0);
  });

  it('passes a counter row that is held', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await steps.account(OF_ORGANIZATION);
    for (const cost of [5, -5]) await steps.append(a, payer, cost);
    await b.run('begin');
    await b.run('select from microdollar_usage_daily where kilo_user_id = $1 for update', [
      payer.user,
    ]);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ depth: 2, settled: 2 });
    await steps.expectExact();
    await b.run('commit');
    await steps.expectFolds(payer, 0);
  });

  it('of Exa requests still counts them', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(EXA_OF_USER);
    for (const cost of [50, -50]) await steps.append(a, payer, cost);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ settled: 2 });
    const counted = 'select request_count as n from exa_monthly_usage where kilo_user_id = $1';
    expect(await steps.fixture.rows(counted, [payer.user])).toEqual([{ n: 2 }]);
    await steps.expectFolds(payer, 0);
  });
});

describe('a bounded fold', () => {
  const upTo = (rowsPerPayer: number) => ({ ...AROUND, rowsPerPayer });

  it('settles from the oldest on, so many rows at a time, and leaves none out', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(OF_USER);
    for (let cost = 1; cost <= 10; cost++) await steps.append(a, payer, cost);
    for (const settled of [3, 3, 3, 1]) {
      expect(await steps.fold(f, payer, upTo(3))).toMatchObject({ depth: settled, settled });
      await steps.expectExact();
    }
    await steps.expectFolds(payer, 0);
  });

  it('leaves what a verification finds right, and a backfill has nothing to correct in', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(OF_USER);
    for (let cost = 1; cost <= 4; cost++) await steps.append(a, payer, cost);
    // The mark is the position of the next row, exactly.
    expect((await steps.fold(f, payer, upTo(2))).settled).toBe(2);
    const of = { url: steps.fixture.database.url, rollup: DAILY_ROLLUP, from: DAY, until: DAY };
    expect(await verifyRollup(of)).toMatchObject({ driftKeys: 0, failures: [] });
    expect(await runBackfill(of)).toMatchObject({ corrected: 0, left: 0 });
    await steps.expectExact();
    await steps.expectFolds(payer, 2);
  });

  it('settles a transaction with more rows than that at once, and goes on', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(OF_ORGANIZATION);
    await steps.append(a, payer, 1);
    await appendMany(payer, 50, 2);
    await steps.append(a, payer, 3);
    await appendMany(payer, 50, 4);
    await steps.append(a, payer, 5);
    for (const settled of [1, 50, 1, 50, 1]) {
      expect((await steps.fold(f, payer, upTo(10))).settled).toBe(settled);
      await steps.expectExact();
    }
    await steps.expectFolds(payer, 0);
  });

  it('keeps to both kinds of limits beside a transaction that is open', async () => {
    const { a, b, f } = steps.sessions;
    const payer = await steps.account(OF_USER);
    await a.run('begin');
    for (let cost = 1; cost <= 4; cost++) await steps.append(a, payer, cost);
    for (let cost = 10; cost <= 40; cost += 10) await steps.append(b, payer, cost);
    expect((await steps.fold(f, payer, { ...BEHIND, rowsPerPayer: 2 })).settled).toBe(0);
    expect((await steps.fold(f, payer, upTo(2))).settled).toBe(2);
    await steps.expectExact();
    await a.run('commit');
    await steps.expectExact();
    // The exception has ended: its rows come first, together.
    expect((await steps.fold(f, payer, upTo(2))).settled).toBe(4);
    await steps.expectExact();
    expect((await steps.fold(f, payer, upTo(2))).settled).toBe(2);
    await steps.expectFolds(payer, 0);
  });

  it('is what a settler falls back to when a payer is too much for one statement', async () => {
    const { a, b } = steps.sessions;
    const payer = await steps.account(OF_USER, { fresh: true });
    for (let cost = 1; cost <= 5; cost++) await steps.append(a, payer, cost);
    await appendMany(payer, 30, 7);
    const query = queryOnPool(steps.fixture.database.pool, false);
    const isLongTail = async () =>
      (
        await query<{ n: number }>({
          name: 'tail',
          text: `select count(*)::integer as n from microdollar_usage as m
          join kilocode_users as u on u.id = m.kilo_user_id
          where u.id = $1 and m.position >= u.settled_below`,
          values: [payer.user],
        })
      ).some(({ n }) => n > 10);
    let isHeld = false;
    let sent = 0;
    const settler = new Settler({
      query: async (statement: Statement) => {
        const isPart = statement.name === 'microdollar_settle_part_user';
        if (statement.name === 'microdollar_settle_user' && (await isLongTail())) {
          throw Object.assign(new Error('canceling statement'), { code: '57014' });
        }
        if (isPart) statement.values[3] = 2;
        if (isHeld && ++sent > 20) throw new Error('it spins');
        return await query(statement);
      },
    });
    await b.run('begin');
    await b.run('insert into microdollar_usage_daily (kilo_user_id, usage_date) values ($1, $2)', [
      payer.user,
      DAY,
    ]);
    isHeld = true;
    // Nothing can be settled while the day's row is being made by somebody else.
    expect(await settler.settle(USER_SCOPE, [payer.user])).toEqual({ settled: 0, left: 1 });
    await b.run('commit');
    isHeld = false;
    expect(await settler.settle(USER_SCOPE, [payer.user])).toEqual({ settled: 35, left: 0 });
    await steps.expectFolds(payer, 0);
  });
});

describe('a counter of 64 bits that would overflow', () => {
  const NEARLY = 9_199_999_999_999_999_990n;
  const balanceOf = async ({ payer }: Account) =>
    BigInt(
      (
        await steps.fixture.rows<{ used: string }>(
          'select microdollars_used as used from kilocode_user_balances where kilo_user_id = $1',
          [payer],
        )
      )[0]?.used ?? 0,
    );

  it('leaves its payer unsettled, and exact, past 2^63 too; neighbours are settled', async () => {
    const { a, f } = steps.sessions;
    const [payer, neighbour] = [await steps.account(OF_USER), await steps.account(OF_USER)];
    await steps.fixture.rows(
      `update kilocode_users set microdollars_used = $2, opening_microdollars_used = $2
       where id = $1`,
      [payer.user, NEARLY],
    );
    await appendMany(payer, 24, 1_000_000_000_000_000);
    await steps.append(a, neighbour, 3);
    const { text, values } = settleStatement(
      USER_SCOPE,
      [payer.user, neighbour.user],
      [true, true],
      AROUND,
    );
    const exact = NEARLY + 24n * 1_000_000_000_000_000n;
    expect(exact > 2n ** 63n).toBe(true);
    const rows = await f.run<{ id: string; balance: string; settled: string }>(text, values);
    expect(
      rows.toSorted((one, other) => Number(one.balance) - Number(other.balance)),
    ).toMatchObject([
      { id: neighbour.user, balance: '3', settled: '1' },
      { id: payer.user, balance: String(exact), settled: '0' },
    ]);
    expect(await balanceOf(payer)).toBe(exact);
    await steps.expectExact();

    // Every way in answers it, and none refuses what it has recorded (I9).
    const ledger = await steps.fixture.open();
    const event = { kilo_user_id: payer.user, cost: 1, created_at: AT };
    expect((await ledger.recordUsage(event)).new_microdollars_used).toBe(exact + 1n);
    expect(await ledger.getUserBalance(payer.user)).toBe(exact + 1n);
    await ledger.recordUsage({ ...event, cost: -1 });
    await steps.expectExact();

    // Brought back by refunds, it is settled as any other.
    await appendMany(payer, 24, -1_000_000_000_000_000);
    await steps.expectFolds(payer, 50);
    expect(await balanceOf(payer)).toBe(NEARLY);
  });

  it('leaves the payer of a day that would overflow', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(OF_USER);
    await steps.fixture.rows(
      `update microdollar_usage_daily
       set total_cost_microdollars = $2, archived_cost_microdollars = $2 where kilo_user_id = $1`,
      [payer.user, -NEARLY],
    );
    await steps.fixture.rows('update kilocode_users set microdollars_used = $2 where id = $1', [
      payer.user,
      -NEARLY,
    ]);
    await steps.append(a, payer, -1_000);
    expect((await steps.fold(f, payer, AROUND)).settled).toBe(0);
    await steps.expectExact();
    await steps.append(a, payer, 1_000);
    await steps.expectFolds(payer, 2);
  });

  it('leaves the payer of such a day also where the balance has room', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(OF_USER);
    await steps.fixture.rows(
      `update microdollar_usage_daily
       set total_cost_microdollars = $2, archived_cost_microdollars = $2 where kilo_user_id = $1`,
      [payer.user, NEARLY],
    );
    await steps.fixture.rows(
      'update kilocode_users set opening_microdollars_used = $2 where id = $1',
      [payer.user, -NEARLY],
    );
    await steps.append(a, payer, 1_000);
    expect((await steps.fold(f, payer, AROUND)).settled).toBe(0);
    await steps.expectExact();
    await steps.append(a, payer, -1_000);
    await steps.expectFolds(payer, 2);
  });
});

describe('a cluster that the ledger does not know (R6)', () => {
  const settings = () =>
    steps.fixture.rows(
      'select settled_everywhere_below, position_seen, generation from ledger_settings',
    );
  const UNKNOWN: [name: string, change: string, back: string][] = [
    [
      'by its identifier',
      `system_identifier = 'another'`,
      `system_identifier = (select c.system_identifier::text from pg_control_system() as c)`,
    ],
    [
      'by a position that it has not reached',
      'position_seen = 2::bigint ^ 60',
      'position_seen = 0',
    ],
  ];

  it.each(UNKNOWN)(
    '%s: writes stay unsettled and exact, and no fold moves a mark',
    async (...how) => {
      const [, change, back] = how;
      const payer = await steps.account(OF_USER);
      const member = await steps.account(OF_ORGANIZATION);
      const known = await steps.fixture.open();
      await known.recordUsage({ kilo_user_id: payer.user, cost: 5, created_at: AT });
      await steps.fixture.rows(`update ledger_settings set ${change}`);
      try {
        // Sessions that were there before stay in their cluster; these are new.
        const ledger = await steps.fixture.open();
        const before = [await steps.mark(payer), await steps.mark(member), await settings()];
        const of = (account: Account, cost: number) => ({
          kilo_user_id: account.user,
          organization_id: account.organization,
          cost,
          created_at: AT,
        });
        const first = { id: randomUUID(), ...of(payer, 10) };
        expect((await ledger.recordUsage(first)).new_microdollars_used).toBe(15);
        expect(await ledger.recordUsage(first)).toMatchObject({ status: 'duplicate' });
        const exa = { kilo_user_id: payer.user, cost: 25, path: '/search', created_at: AT };
        expect((await ledger.recordExaUsage(exa)).new_microdollars_used).toBe(35);
        await ledger.recordUsageBatch([of(payer, 1), of(member, 2), of(member, 3)]);
        await steps.expectExact();

        await onFreshPool(async (insert) => {
          // In place: the row needs no position. Then, beside somebody who holds it, appended.
          expect((await insert(of(payer, 100))).new_microdollars_used).toBe(136);
          const { a } = steps.sessions;
          await a.run('begin');
          await a.run('select from kilocode_users where id = $1 for update', [payer.user]);
          expect((await insert(of(payer, 1000))).new_microdollars_used).toBe(1136);
          await a.run('commit');
        });
        await steps.expectExact();

        expect((await ledger.fold()).drained).toBe(0);
        expect((await ledger.getPendingStatus()).depth).toBe(6);
        expect([await steps.mark(payer), await steps.mark(member), await settings()]).toEqual(
          before,
        );
        expect(await ledger.getUserBalance(payer.user)).toBe(1136);
        await steps.expectExact();
      } finally {
        await steps.fixture.rows(`update ledger_settings set ${back}`);
      }
      // Once it is known, rows of then get a place below some mark, by hand here.
      for (const log of ['microdollar_usage', 'exa_usage_log']) {
        await steps.fixture.rows(
          `update ${log} set position = microdollar_position()
         where position >= 524287::bigint << 44`,
        );
      }
      await steps.expectExact();
      await steps.expectFolds(member, 2);
      await steps.expectFolds({ ...payer, kind: EXA_OF_USER }, 1);
      await steps.expectFolds(payer, 3);
    },
  );

  it('a raised generation settles what an older one left', async () => {
    const { a, f } = steps.sessions;
    const payer = await steps.account(OF_USER);
    await steps.append(a, payer, 5);
    await steps.fixture.rows('update ledger_settings set generation = generation + 1');
    await f.run(FORGET_GENERATION);
    expect(await steps.fold(f, payer, AROUND)).toMatchObject({ depth: 1, settled: 1 });
    await steps.expectExact();
    // A session of the old generation would write below the mark: `migrate` ends them first.
    for (const session of Object.values(steps.sessions)) {
      await session.run(FORGET_GENERATION);
    }
    await steps.append(a, payer, 6);
    await steps.expectFolds(payer, 1);
  });
});

async function onFreshPool(
  work: (
    insert: (event: object) => Promise<{ new_microdollars_used: number | bigint | null }>,
  ) => Promise<void>,
): Promise<void> {
  const { insertUsageAndMetadataWithBalanceUpdate } = await import(
    '../../src/record/onExecutor.js'
  );
  const pool = openPool({ connectionString: steps.fixture.database.url, max: 3 });
  try {
    await work((event) => insertUsageAndMetadataWithBalanceUpdate(pool, event as never));
  } finally {
    await pool.end();
  }
}
