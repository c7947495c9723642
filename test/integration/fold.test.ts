import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fold } from '../../src/counter/fold.js';
import { drainStatement, openCountersStatement } from '../../src/counter/fold.sql.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { createMetrics } from '../../src/metrics.js';
import { BalanceReader } from '../../src/record/balanceReader.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { isBlocked, openSessions, type Session } from '../support/sessions.js';
import {
  createLedgerFixture,
  foldAll,
  type LedgerFixture,
  ledgerErrorOf,
  PERSONAL_DAILY,
} from './ledgerHarness.js';

const AT = '2025-05-06T07:08:09Z';
const DAY = '2025-05-06';

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  // Every write leaves a pending row.
  ledger = await fixture.open({ appendAlways: true, exaFreeAllowanceMicrodollars: 50 });
});

afterAll(() => fixture.close());

const invariants = () => checkInvariants(fixture.database.pool);
const isFolded = async () => (await checkFolded(fixture.database.pool)).length === 0;

async function append(user: string, count: number, organization: string | null = null) {
  const events = Array.from({ length: count }, (_, index) => ({
    kilo_user_id: user,
    organization_id: organization,
    cost: index + 1,
    created_at: AT,
  }));
  const results = await ledger.recordUsageBatch(events);
  expect(results.filter(({ status }) => status !== 'recorded')).toEqual([]);
}

/** Runs work while another session keeps a transaction open in which it ran the statements. */
async function beside(
  statements: [text: string, values: unknown[]][],
  work: (holder: Session) => Promise<void>,
  begin = 'begin',
): Promise<void> {
  await using sessions = await openSessions(fixture.database.url, 1);
  const holder = sessions.all[0] as Session;
  await holder.run(begin);
  for (const [text, values] of statements) await holder.run(text, values);
  await work(holder);
  await holder.run('commit');
}

describe('a fold', () => {
  it('creates missing rows, drains every kind of pending row, and says how many', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    await append(user, 3);
    await append(user, 2, organization);
    const exa = { kilo_user_id: user, path: '/search', created_at: AT };
    await ledger.recordExaUsage({ ...exa, cost: 80 });
    await ledger.recordExaUsage({ ...exa, cost: 40, organization_id: organization });
    expect(await invariants()).toEqual([]);
    expect((await ledger.getPendingStatus()).depth).toBeGreaterThanOrEqual(4);
    const report = await ledger.fold();
    expect(report.remaining).toBe(0);
    expect(report.drained).toBeGreaterThanOrEqual(4);
    expect(await ledger.getPendingStatus()).toEqual({ depth: 0, oldestAgeMs: 0 });
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 6 }]);
    const balance = 'select microdollars_used::integer as used from kilocode_users where id = $1';
    expect(await fixture.rows(balance, [user])).toEqual([{ used: 36 }]);
    await fixture.expectExact();
  });

  it('does nothing when nothing is pending', async () => {
    await foldAll(ledger);
    expect(await ledger.fold()).toEqual({ drained: 0, remaining: 0 });
  });

  it('keeps within its bounds and still drains more rows and keys than one step takes', async () => {
    const users = await Promise.all(Array.from({ length: 250 }, () => fixture.addUser()));
    const deep = await fixture.addUser();
    await fixture.rows(
      `with usage as (
         insert into microdollar_usage (id, kilo_user_id, cost, created_at)
         select gen_random_uuid(), u, n, $2::timestamptz - n * interval '1 day'
         from unnest($1::text[]) as u
         cross join generate_series(1, 3) as n
         union all
         select gen_random_uuid(), $3, n % 7, $2::timestamptz - n * interval '1 minute'
         from generate_series(1, 9000) as n
         returning kilo_user_id, cost, created_at
       )
       insert into microdollar_usage_pending (kilo_user_id, usage_date, cost_microdollars)
       select kilo_user_id, (created_at at time zone 'UTC')::date, cost from usage`,
      [users, AT, deep],
    );
    expect(await invariants()).toEqual([]);
    expect(await ledger.fold()).toEqual({ drained: 9750, remaining: 0 });
    await fixture.expectExact();
  });

  it('is metered', async () => {
    const user = await fixture.addUser();
    const metered = await fixture.open({ appendAlways: true, groupCommit: false });
    await metered.recordUsage({ kilo_user_id: user, cost: 3 });
    await metered.recordUsage({ kilo_user_id: user, cost: 4 });
    await sleep(20);
    const status = await metered.getPendingStatus();
    expect(status.depth).toBe(2);
    expect(status.oldestAgeMs).toBeGreaterThan(0);
    const value = async (name: string) => {
      const metric = await metered.metrics.registry.getSingleMetric(name)?.get();
      return metric?.values[0]?.value;
    };
    expect(await value('microdollar_pending_rows')).toBe(2);
    expect(await value('microdollar_pending_oldest_age_seconds')).toBeGreaterThan(0);
    expect(await value('microdollar_folded_rows_total')).toBe(0);
    await foldAll(metered);
    expect(await value('microdollar_pending_rows')).toBe(0);
    expect(await value('microdollar_pending_oldest_age_seconds')).toBe(0);
    expect(await value('microdollar_folded_rows_total')).toBe(2);
  });

  it('runs in the background, and stops with the ledger', async () => {
    const user = await fixture.addUser();
    const busy = await fixture.open({ appendAlways: true, backgroundFold: true });
    await busy.recordUsage({ kilo_user_id: user, cost: 3, created_at: AT });
    while (!(await isFolded())) await sleep(10);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 3 }]);
    await busy.close();
    await append(user, 1);
    await sleep(600);
    expect(await isFolded()).toBe(false);
    await fixture.expectExact();
  });
});

describe('a fold that dies', () => {
  it('in the middle changes nothing, and the next one does its work', async () => {
    const user = await fixture.addUser();
    await append(user, 4);
    await using sessions = await openSessions(fixture.database.url, 1);
    const folder = sessions.all[0] as Session;
    await folder.run('begin');
    for (const make of [openCountersStatement, drainStatement]) {
      const { text, values } = make([user], [], 100);
      await folder.run(text, values);
    }
    await fixture.rows('select pg_terminate_backend($1)', [folder.pid]);
    await expect(folder.run('commit')).rejects.toThrow();
    expect(await invariants()).toEqual([]);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([]);
    await fixture.expectExact();
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 10 }]);
  });

  it('by a lost connection is an `unavailable` that a second call makes good', async () => {
    const user = await fixture.addUser();
    await append(user, 4);
    const pool = new pg.Pool({
      connectionString: fixture.database.url,
      max: 1,
      application_name: `doomed fold ${randomUUID()}`,
    });
    pool.on('error', () => {});
    const fold = new Fold(queryOnPool(pool, false), createMetrics());
    const table = 'lock table kilocode_users in access exclusive mode';
    await beside([[table, []]], async () => {
      const folding = fold.drainAll().then(
        () => null,
        (error: unknown) => error,
      );
      const doomed = async () =>
        (
          await fixture.rows<{ pid: number }>(
            `select pid from pg_stat_activity
             where application_name = $1 and cardinality(pg_blocking_pids(pid)) > 0`,
            [pool.options.application_name],
          )
        )[0]?.pid;
      let pid = await doomed();
      while (pid === undefined) pid = await doomed();
      await fixture.rows('select pg_terminate_backend($1)', [pid]);
      expect(await folding).toMatchObject({ code: '57P01' });
    });
    expect(await fold.drainAll()).toEqual({ drained: 1, remaining: 0 });
    await pool.end();
    await fixture.expectExact();
  });
});

describe('pending_floor', () => {
  const floorOf = async (user: string) =>
    (
      await fixture.rows<{ floor: string }>(
        'select pending_floor::text as floor from kilocode_users where id = $1',
        [user],
      )
    )[0]?.floor ?? '0';

  it('never falls, never passes a pending row, and stays put while an old writer runs', async () => {
    const user = await fixture.addUser();
    const old = await fixture.database.pool.connect();
    try {
      await old.query('begin');
      // Takes its transaction id now; its pending row comes into sight only at its commit.
      await insertUsageAndMetadataWithBalanceUpdate(old, { kilo_user_id: user, cost: 1000 });
      let floor = 0n;
      for (let round = 0; round < 5; round++) {
        await append(user, 2);
        await foldAll(ledger);
        const next = BigInt(await floorOf(user));
        expect(next >= floor).toBe(true);
        floor = next;
        expect(await invariants()).toEqual([]);
      }
      const own = await old.query('select pg_current_xact_id()::text as xid');
      expect(floor <= BigInt(own.rows[0].xid)).toBe(true);
      await old.query('commit');
    } finally {
      old.release();
    }
    expect(await ledger.getUserBalance(user)).toBe(1015);
    await fixture.expectExact();
    expect(await ledger.getUserBalance(user)).toBe(1015);
  });

  it('covers rows that a bounded step left', async () => {
    const user = await fixture.addUser();
    await append(user, 1);
    await append(user, 1);
    await append(user, 1);
    const drain = async (limit: number) => {
      const { text, values } = drainStatement([user], [], limit);
      await fixture.rows(text, values);
      expect(await invariants()).toEqual([]);
    };
    const { text, values } = openCountersStatement([user], [], 10);
    await fixture.rows(text, values);
    for (const limit of [1, 2, 1, 1]) await drain(limit);
    await fixture.expectExact();
  });
});

describe('an old snapshot', () => {
  it('sees its own moment exactly, while folds go on and their dead rows pile up', async () => {
    const user = await fixture.addUser();
    await append(user, 5);
    const read = `
      select e.total_cost_microdollars::integer as total, b.microdollars_used::integer as used,
        microdollar_user_balance($1)::integer as balance
      from microdollar_usage_daily_exact as e
      join kilocode_user_balances as b using (kilo_user_id)
      where e.kilo_user_id = $1`;
    const before = { total: 15, used: 15, balance: 15 };
    await beside(
      [['select pg_current_snapshot()', []]],
      async (holder) => {
        expect(await holder.run(read, [user])).toEqual([before]);
        for (let round = 0; round < 10; round++) {
          await append(user, 4);
          await foldAll(ledger);
        }
        expect(await holder.run(read, [user])).toEqual([before]);
        expect(await ledger.getUserBalance(user)).toBe(115);
        expect(await isBlocked(fixture.database.pool, holder)).toBe(false);
      },
      'begin isolation level repeatable read',
    );
    await fixture.expectExact();
  });
});

describe('a counter that cannot hold its total', () => {
  const MAX = Number.MAX_SAFE_INTEGER;

  it('harms neither the neighbours of its fold nor their balances', async () => {
    const own = await createLedgerFixture();
    try {
      const appending = await own.open({ appendAlways: true, groupCommit: false });
      const [absurd, neighbour] = [await own.addUser('absurd'), await own.addUser('neighbour')];
      // Above 2^63 - 1 together.
      await own.rows(
        `with usage as (
           insert into microdollar_usage (id, kilo_user_id, cost, created_at)
           select gen_random_uuid(), $1, $2, $3 from generate_series(1, 1030)
           returning kilo_user_id, cost
         )
         insert into microdollar_usage_pending (kilo_user_id, usage_date, cost_microdollars)
         select kilo_user_id, $4, cost from usage`,
        [absurd, MAX, AT, DAY],
      );
      const reader = new BalanceReader(queryOnPool(own.database.pool, false));
      const payer = (kilo_user_id: string) => ({ kilo_user_id, organization_id: null });
      // The first travels alone, the others wait and travel together.
      const balances = await Promise.allSettled(
        [neighbour, absurd, neighbour, absurd].map((user) => reader.read(payer(user))),
      );
      expect(balances.map(({ status }) => status)).toEqual([
        'fulfilled',
        'rejected',
        'fulfilled',
        'rejected',
      ]);
      await appending.recordUsage({ kilo_user_id: neighbour, cost: 5, created_at: AT });
      const error = await ledgerErrorOf(
        appending.recordUsage({ kilo_user_id: absurd, cost: 1, created_at: AT }),
      );
      expect(error.code).toBe('out_of_range');
      expect((await appending.metrics.retries.get()).values).toEqual([]);
      const report = await appending.fold();
      expect(report.remaining).toBeGreaterThan(0);
      expect(await own.rows(PERSONAL_DAILY, [neighbour])).toEqual([{ usage_date: DAY, total: 5 }]);
    } finally {
      await own.close();
    }
  });
});
