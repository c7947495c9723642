import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger, ReadMode } from '../../src/ledgerTypes.js';
import { createMetrics } from '../../src/metrics.js';
import { Reports } from '../../src/report/report.js';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';
import { insertMicrodollarUsageWithDailyRollup } from '../../src/testing.js';
import { openPool } from '../support/openPool.js';
import { openSessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

const ZONES = ['UTC', 'America/New_York', 'Asia/Kolkata', 'Pacific/Kiritimati'] as const;

let fixture: LedgerFixture;
let ledger: Ledger;
const pools: pg.Pool[] = [];
/** Both sources, each under every session time zone. */
const readers: { mode: ReadMode; zone: string; reports: Reports }[] = [];

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open({ appendAlways: true });
  for (const zone of ZONES) {
    const pool = openPool({
      connectionString: fixture.database.url,
      max: 2,
      options: `-c timezone=${zone}`,
    });
    pools.push(pool);
    for (const mode of ['raw', 'rollup'] as const) {
      const query = queryOnPool(pool, true);
      const reports = new Reports(
        query,
        () => mode,
        () => {},
        createMetrics(),
      );
      readers.push({ mode, zone, reports });
    }
  }
});

afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end()));
  await fixture.close();
});

async function insert(user: string, costs: [createdAt: string, cost: number][], org?: string) {
  await insertMicrodollarUsageWithDailyRollup(
    fixture.database.pool,
    costs.map(([created_at, cost]) => ({
      kilo_user_id: user,
      organization_id: org ?? null,
      created_at,
      cost,
    })),
  );
}

async function averages(user: string, asOf: string): Promise<number[]> {
  const answers = await Promise.all(
    readers.map(async ({ mode, reports }) => {
      const answer = await reports.getAverageMonthlyUsageLast3Months({ kilo_user_id: user, asOf });
      expect(answer.source).toMatchObject({ mode, server: 'primary' });
      return answer.averageMonthlyUsageUsd;
    }),
  );
  return [...new Set(answers)];
}

/** A UTC day some days later. */
function addDays(day: string, days: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

/** Three calendar months before, the day cut to the month's length: an oracle of its own. */
function threeMonthsBefore(day: string): string {
  const [year = 0, month = 0, date = 0] = day.split('-').map(Number);
  const first = new Date(Date.UTC(year, month - 1 - 3, 1));
  const days = new Date(Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 0)).getUTCDate();
  first.setUTCDate(Math.min(date, days));
  return first.toISOString().slice(0, 10);
}

describe('the three-month window', () => {
  it.each([
    ['2025-05-31T12:00:00Z', '2025-02-28', '2025-05-31'],
    ['2024-05-31T12:00:00Z', '2024-02-29', '2024-05-31'],
    ['2024-05-29T12:00:00Z', '2024-02-29', '2024-05-29'],
    ['2025-05-29T12:00:00Z', '2025-02-28', '2025-05-29'],
    ['2025-03-31T23:59:59.999999Z', '2024-12-31', '2025-03-31'],
    ['2025-01-15T00:00:00Z', '2024-10-15', '2025-01-15'],
    ['2025-07-31T00:00:00Z', '2025-04-30', '2025-07-31'],
    ['2025-11-30T00:00:00Z', '2025-08-30', '2025-11-30'],
    // DST begins in New York; there it is still the day before.
    ['2025-03-09T03:30:00Z', '2024-12-09', '2025-03-09'],
    ['2025-03-09T03:30:00-04:00', '2024-12-09', '2025-03-09'],
    ['2025-11-02T01:30:00-05:00', '2025-08-02', '2025-11-02'],
    // Another day where the caller is.
    ['2025-03-01T09:00:00+14:00', '2024-11-28', '2025-02-28'],
    ['2025-02-28T20:00:00-12:00', '2024-12-01', '2025-03-01'],
    ['2016-02-29T00:00:00Z', '2015-11-29', '2016-02-29'],
  ])('as of %s is %s to %s, inclusive, from raw usage and rollup', async (asOf, from, until) => {
    expect(threeMonthsBefore(until)).toBe(from);
    const user = await fixture.addUser();
    const other = await fixture.addUser();
    const organization = await fixture.addOrganization();
    // As a tenth: costs are bounded.
    const usd = 100_000;
    await insert(user, [
      [`${addDays(from, -1)}T23:59:59.999999Z`, 3 * usd],
      [`${from}T00:00:00Z`, 30 * usd],
      [`${addDays(from, 40)}T12:00:00Z`, 300 * usd],
      [`${addDays(from, 40)}T12:00:00Z`, 0],
      [`${until}T23:59:59.999999Z`, 3_000 * usd],
      [`${addDays(until, 1)}T00:00:00Z`, 30_000 * usd],
    ]);
    await insert(user, [[`${until}T00:00:00Z`, 300_000 * usd]], organization);
    await insert(other, [[`${until}T00:00:00Z`, 3_000_000 * usd]]);
    expect(await averages(user, asOf)).toEqual([111]);
  });

  it('gives raw and rollup the same answer for random users at random instants', async () => {
    const random = (bound: number) => Math.floor(Math.random() * bound);
    const startMs = Date.UTC(2023, 10, 1);
    const users: { id: string; events: [string, number][] }[] = [];
    for (let index = 0; index < 12; index++) {
      const events = Array.from({ length: 60 }, (): [string, number] => [
        new Date(startMs + random(200 * 86_400) * 1000).toISOString(),
        random(2_000_000) - 300_000,
      ]);
      const id = await fixture.addUser();
      await insert(id, events);
      users.push({ id, events });
    }
    await Promise.all(
      users.map(async ({ id, events }) => {
        for (let round = 0; round < 6; round++) {
          const asOf = new Date(startMs + random(300 * 86_400) * 1000).toISOString();
          const until = asOf.slice(0, 10);
          const from = threeMonthsBefore(until);
          const total = events
            .filter(([at]) => at.slice(0, 10) >= from && at.slice(0, 10) <= until)
            .reduce((sum, [, cost]) => sum + cost, 0);
          const cents = Math.sign(total) * Math.round(Math.abs(total) / 30_000);
          // A small debt rounds to zero, never to the -0 that toEqual tells apart.
          expect(await averages(id, asOf)).toEqual([cents === 0 ? 0 : cents / 100]);
        }
      }),
    );
    await fixture.expectExact();
  });

  it('ends today when no instant is given', async () => {
    const user = await fixture.addUser();
    const nowMs = Date.now();
    await insert(user, [
      [new Date(nowMs - 1000).toISOString(), 3_000_000],
      [new Date(nowMs - 120 * 86_400_000).toISOString(), 30_000_000],
    ]);
    for (const { reports } of readers) {
      const answer = await reports.getAverageMonthlyUsageLast3Months({ kilo_user_id: user });
      expect(answer.averageMonthlyUsageUsd).toBe(1);
      expect(answer.source.asOf).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    }
  });

  it('contains what is unsettled, at once', async () => {
    const user = await fixture.addUser();
    await ledger.recordUsage({ kilo_user_id: user, cost: 6_000_000 });
    const answer = await ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: user });
    expect(answer.averageMonthlyUsageUsd).toBe(2);
    await fixture.expectExact();
  });

  it('contains what was archived', async () => {
    const user = await fixture.addUser();
    await insert(user, [['2025-05-06T00:00:00Z', 6_000_000]]);
    const archive = `
      with gone as (
        delete from microdollar_usage where kilo_user_id = $1 returning cost
      )
      update microdollar_usage_daily
      set archived_cost_microdollars = (select sum(cost) from gone)
      where kilo_user_id = $1`;
    await fixture.rows(archive, [user]);
    expect(await averages(user, '2025-05-07T00:00:00Z')).toEqual([2]);
    await fixture.expectExact();
  });
});

describe('the average', () => {
  it.each([
    [0, 0],
    [14_999, 0],
    [15_000, 0.01],
    [44_999, 0.01],
    [45_000, 0.02],
    [-14_999, 0],
    [-15_000, -0.01],
    [-45_000, -0.02],
    [3_000_000, 1],
    [1_000_000_000_000, 333_333.33],
  ])('of %d microdollars is %d USD: cents, half away from zero', async (total, usd) => {
    const user = await fixture.addUser();
    await insert(user, [['2025-05-06T00:00:00Z', total]]);
    // toEqual tells -0 from 0.
    expect(await averages(user, '2025-05-07T00:00:00Z')).toEqual([usd]);
  });

  it('of more than 2^63 microdollars, as raw rows of another program may sum to, is exact', async () => {
    const user = await fixture.addUser();
    const largest = 2n ** 63n - 1n;
    await fixture.rows(
      `with raw as (
         insert into microdollar_usage (id, kilo_user_id, cost, created_at)
         select gen_random_uuid(), $1, $2::bigint, timestamptz '2025-05-01Z' + d * interval '1 day'
         from generate_series(0, 2) as d
         returning kilo_user_id, cost, created_at)
       insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
       select kilo_user_id, (created_at at time zone 'UTC')::date, cost from raw`,
      [user, String(largest)],
    );
    expect(await averages(user, '2025-05-07T00:00:00Z')).toEqual([9_223_372_036_854.78]);
    const range = { kilo_user_id: user, from: '2025-05-01', until: '2025-05-03' };
    for (const { reports } of readers) {
      const { days } = await reports.getDailyUsage(range);
      expect(days.map((day) => day.total_cost_microdollars)).toEqual([largest, largest, largest]);
    }
    await fixture.rows('delete from microdollar_usage where kilo_user_id = $1', [user]);
    await fixture.rows('delete from microdollar_usage_daily where kilo_user_id = $1', [user]);
  });

  it('of a user without usage, or unknown, is 0', async () => {
    expect(await averages('nobody', '2025-05-07T00:00:00Z')).toEqual([0]);
  });
});

describe('getDailyUsage', () => {
  let user: string;
  let organization: string;

  beforeAll(async () => {
    user = await fixture.addUser();
    organization = await fixture.addOrganization();
    await insert(user, [
      ['2025-02-27T23:59:59.999999Z', 1],
      ['2025-02-28T00:00:00Z', 2],
      ['2025-02-28T23:59:59.999999Z', 20],
      ['2025-03-01T00:00:00Z', 5],
      ['2025-03-02T12:00:00Z', 7],
      ['2025-03-02T13:00:00Z', -7],
      ['2025-03-03T12:00:00Z', 0],
      ['2025-03-04T12:00:00Z', -9],
    ]);
    await insert(user, [['2025-03-01T00:00:00Z', 500]], organization);
  });

  const everywhere = async (query: {
    from: string;
    until: string;
    organization_id?: string | null;
  }) => {
    const answers = await Promise.all(
      readers.map(({ reports }) => reports.getDailyUsage({ kilo_user_id: user, ...query })),
    );
    return [...new Set(answers.map(({ days }) => JSON.stringify(days)))].map((days) =>
      (JSON.parse(days) as { usage_date: string; total_cost_microdollars: number }[]).map((day) => [
        day.usage_date,
        day.total_cost_microdollars,
      ]),
    );
  };

  it.each([
    [
      '2025-02-27',
      '2025-03-04',
      [
        ['2025-02-27', 1],
        ['2025-02-28', 22],
        ['2025-03-01', 5],
        ['2025-03-04', -9],
      ],
    ],
    ['2025-02-28', '2025-02-28', [['2025-02-28', 22]]],
    ['2025-03-02', '2025-03-03', []],
    ['0001-01-01', '9999-12-31', null],
    ['2024-01-01', '2025-02-27', [['2025-02-27', 1]]],
  ])(
    'from %s until %s is inclusive, in order, days with a total only',
    async (from, until, days) => {
      const answers = await everywhere({ from, until });
      expect(answers).toHaveLength(1);
      if (days) expect(answers[0]).toEqual(days);
      else expect(answers[0]).toHaveLength(4);
    },
  );

  it('keeps the scopes apart', async () => {
    const range = { from: '2025-01-01', until: '2025-12-31' };
    expect(await everywhere({ ...range, organization_id: organization })).toEqual([
      [['2025-03-01', 500]],
    ]);
    expect((await everywhere({ ...range, organization_id: null }))[0]).toHaveLength(4);
  });
});

describe('unsettled rows', () => {
  const range = { from: '2025-03-01', until: '2025-03-31' };
  const at = '2025-03-05T00:00:00Z';
  const totalsOf = async (user: string, organization_id: string | null) => {
    const answers = await Promise.all(
      readers.map(({ reports }) =>
        reports.getDailyUsage({ kilo_user_id: user, organization_id, ...range }),
      ),
    );
    return new Set(answers.map(({ days }) => days[0]?.total_cost_microdollars));
  };

  it("of an organization are told from settled ones by the organization's mark", async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    const event = { kilo_user_id: user, created_at: at };
    // Another member's are on the organization's account too, and not this user's.
    const other = { ...event, kilo_user_id: await fixture.addUser() };
    await ledger.recordUsage({ ...other, organization_id: organization, cost: 1_000 });
    // The user's mark passes the organization's row, or stays below: neither is its payer's.
    await ledger.recordUsage({ ...event, organization_id: organization, cost: 5 });
    await ledger.recordUsage({ ...event, cost: 7 });
    const holder = await fixture.database.pool.connect();
    await holder.query('begin');
    await holder.query('select from organizations where id = $1 for update', [organization]);
    await ledger.fold();
    expect(await totalsOf(user, organization)).toEqual(new Set([5]));
    expect(await totalsOf(user, null)).toEqual(new Set([7]));
    await holder.query('rollback');
    holder.release();

    await ledger.recordUsage({ ...event, organization_id: organization, cost: 20 });
    await ledger.recordUsage({ ...event, cost: 40 });
    const ofUser = await fixture.database.pool.connect();
    await ofUser.query('begin');
    await ofUser.query('select from kilocode_users where id = $1 for update', [user]);
    await ledger.fold();
    expect(await totalsOf(user, organization)).toEqual(new Set([25]));
    expect(await totalsOf(user, null)).toEqual(new Set([47]));
    await ofUser.query('rollback');
    ofUser.release();
    await fixture.expectExact();
  });

  it('are read by their index: what is settled costs a read nothing', async () => {
    const user = await fixture.addUser();
    // Statistics do not know this user: what they think of the user's history is cheap.
    await fixture.rows('analyze microdollar_usage');
    await insert(
      user,
      Array.from({ length: 300 }, (_, index) => [`${addDays('2024-05-01', index)}T00:00:00Z`, 1]),
    );
    const organizationId = await fixture.addOrganization();
    await using sessions = await openSessions(fixture.database.url, 1);
    const [session] = sessions.all;
    await session?.run('set enable_seqscan = off; set enable_bitmapscan = off');
    const query = { kiloUserId: user, ...range };
    for (const { text, values } of [
      threeMonthTotalStatement('rollup', user, null),
      dailyUsageStatement('rollup', { ...query, organizationId: null }),
      dailyUsageStatement('rollup', { ...query, organizationId }),
    ]) {
      const rows = (await session?.run(`explain (costs off) ${text}`, values)) ?? [];
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      const usage = plan.match(/idx_microdollar_usage_(?!daily)\w+|microdollar_usage_pkey/g) ?? [];
      expect([...new Set(usage)]).toEqual(['idx_microdollar_usage_unsettled']);
      expect(plan).not.toContain('Seq Scan');
    }
  });
});

describe('bad input', () => {
  const range = { from: '2025-01-01', until: '2025-01-31' };
  const daily = (change: object) => () =>
    ledger.getDailyUsage({ kilo_user_id: 'u', ...range, ...change });
  const average = (change: object) => () =>
    ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'u', ...change });

  it.each<[field: string, name: string, read: () => Promise<unknown>]>([
    ['from', 'an instant', daily({ from: '2025-01-01T00:00:00Z' })],
    ['from', 'not on the calendar', daily({ from: '2025-02-29' })],
    ['until', 'a short year', daily({ until: '26-01-01' })],
    ['until', 'missing', daily({ until: undefined })],
    ['from', 'after until', daily({ from: '2025-02-01' })],
    ['organization_id', 'not a UUID', daily({ organization_id: 'acme' })],
    ['kilo_user_id', 'missing', daily({ kilo_user_id: undefined })],
    ['kilo_user_id', 'with a NUL', daily({ kilo_user_id: 'u\0' })],
    ['kilo_user_id', 'empty', average({ kilo_user_id: '' })],
    ['asOf', 'without an offset', average({ asOf: '2025-01-01T00:00:00' })],
    ['asOf', 'a day', average({ asOf: '2025-01-01' })],
    ['asOf', 'an invalid Date', average({ asOf: new Date(Number.NaN) })],
  ])('%s: %s is an invalid_request that names the field', async (field, _, read) => {
    expect(await ledgerErrorOf(read())).toMatchObject({
      code: 'invalid_request',
      details: { field },
    });
  });
});
