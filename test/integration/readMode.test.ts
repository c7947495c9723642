import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Query } from '../../src/db/query.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { createMetrics } from '../../src/metrics.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { openRollupDatabase, type RollupDatabase } from '../../src/rollup/database.js';
import { describeDays, readReadMode, setReadMode } from '../../src/rollup/readMode.js';
import { REQUIRED_COMPARISONS } from '../../src/rollup/readMode.sql.js';
import { ReadModeFollower } from '../../src/rollup/readModeFollower.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { compareUsers } from '../../src/server/operations/compareUsers.js';
import { createTestDatabase, once, type TestDatabase } from '../support/database.js';
import { writeRawHistory } from '../support/rawUsage.js';

let database: TestDatabase;
let control: RollupDatabase;
const opened: { close(): Promise<void> }[] = [];

/** A database of the test's own: empty, or with a history. */
async function begin(history?: () => Promise<string>): Promise<void> {
  database = await createTestDatabase({ template: await history?.() });
  opened.push({ close: database.drop });
  control = openRollupDatabase(database.url, 1);
  opened.push(control);
  // A proof of today and yesterday lasts for ten minutes.
  await database.pool.query(
    `update rollup_coverage set verified_at = now() where state = 'verified'`,
  );
}

afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});

async function openLedger(): Promise<Ledger> {
  const ledger = await createLedger({ databaseUrl: database.url });
  opened.push(ledger);
  return ledger;
}

/** A process follows the stored mode within seconds. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function proveHistory(url: string): Promise<void> {
  await runBackfill({ url, rollup: DAILY_ROLLUP });
  await verifyRollup({ url, rollup: DAILY_ROLLUP });
}

async function windowStart(): Promise<string> {
  const { rows } = await database.pool.query(
    `select ((now() at time zone 'UTC')::date - interval '3 months')::date::text as day`,
  );
  return rows[0].day;
}

async function compareInShadow(ledger: Ledger, comparisons: number): Promise<void> {
  const before = (await readReadMode(control.query)).gate.shadow.comparisons;
  await until(async () => {
    await ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'user-1' });
    const { shadow } = (await readReadMode(control.query)).gate;
    return shadow.comparisons - before >= comparisons || shadow.mismatches > 0;
  });
}

describe('a new installation', () => {
  beforeEach(() => begin());

  it('starts in rollup, without a history to prove', async () => {
    const ledger = await openLedger();
    expect(ledger.getReadMode()).toMatchObject({ stored: 'rollup', effective: 'rollup' });
    await database.pool.query(`insert into kilocode_users (id) values ('u')`);
    await ledger.recordUsage({ kilo_user_id: 'u', cost: 3_000_000 });
    const answer = await ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'u' });
    expect(answer).toMatchObject({ averageMonthlyUsageUsd: 1, source: { mode: 'rollup' } });
  });

  it('falls back to raw when a check finds damage, in every process', async () => {
    const [one, two] = [await openLedger(), await openLedger()];
    await database.pool.query(`insert into kilocode_users (id) values ('u')`);
    await one.recordUsage({ kilo_user_id: 'u', cost: 3_000_000 });
    await database.pool.query(
      'update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 9',
    );
    await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP });
    await until(() => one.getReadMode()?.stored === 'raw' && two.getReadMode()?.stored === 'raw');
    // Verify itself, or a process that saw what verify had noted: whoever came first.
    expect(two.getReadMode()?.reason).toMatch(/verify found 1 wrong keys|drift was found/);
    const answer = await two.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'u' });
    expect(answer).toMatchObject({ averageMonthlyUsageUsd: 1, source: { mode: 'raw' } });
    expect(await two.metrics.registry.metrics()).toContain(
      'microdollar_read_mode_fallbacks_total 1',
    );
    // No longer exact by construction: it has to be proven like any other.
    const { rows } = await database.pool.query('select installed_empty from ledger_settings');
    expect(rows).toEqual([{ installed_empty: false }]);
  });

  it('comes back by repair and comparisons, also of usage of organizations alone', async () => {
    const ledger = await openLedger();
    await database.pool.query(`insert into kilocode_users (id) values ('u')`);
    const { rows } = await database.pool.query(
      `insert into organizations (name) values ('o') returning id`,
    );
    await ledger.recordUsage({ kilo_user_id: 'u', organization_id: rows[0].id, cost: 3_000_000 });
    await database.pool.query(
      'update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 9',
    );
    await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP });
    await repairRollup({ url: database.url, rollup: DAILY_ROLLUP });
    // docs/operations.md: not by `read-mode rollup` alone.
    await expect(setReadMode(control, 'rollup')).rejects.toThrow(/made 0 of 100 comparisons/);
    await setReadMode(control, 'shadow');
    expect(await compareUsers(control, REQUIRED_COMPARISONS)).toEqual({
      comparisons: REQUIRED_COMPARISONS,
      mismatches: [],
    });
    expect(await setReadMode(control, 'rollup')).toMatchObject({ effective: 'rollup' });
  });

  it('falls back by a verification alone, though no process is there', async () => {
    await database.pool.query(
      `insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
       values ('u', '2025-01-01', 9)`,
    );
    await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP });
    const { stored, reason } = await readReadMode(control.query);
    expect({ stored, reason }).toMatchObject({
      stored: 'raw',
      reason: expect.stringContaining('1 wrong keys'),
    });
  });
});

/** 60 days of 20 users, and whether they are proven. */
const historyOf = (isProven: boolean) =>
  once(async () => {
    const database = await createTestDatabase({ kept: true });
    await writeRawHistory(database.pool, { rows: 2_000, days: 60, users: 20 });
    if (isProven) await proveHistory(database.url);
    await database.drop();
    return database.name;
  });
const unprovenHistory = historyOf(false);
const provenHistory = historyOf(true);

describe('the switch of an adopted ledger', () => {
  it('is refused with the list of unproven days, allowed after proof, and falls back', async () => {
    await begin(unprovenHistory);
    const ledger = await openLedger();
    expect(ledger.getReadMode()?.effective).toBe('raw');

    const refusal = await setReadMode(control, 'rollup').catch((error) => error);
    expect(refusal).toMatchObject({ code: 'unproven_window' });
    expect(refusal.details.unproven_days).toContain(await windowStart());
    expect(refusal.details.unproven_days.length).toBeGreaterThanOrEqual(90);

    await runBackfill({ url: database.url, rollup: DAILY_ROLLUP });
    const builtOnly = await setReadMode(control, 'rollup').catch((error) => error);
    expect(builtOnly.details.unproven_days.length).toBeGreaterThanOrEqual(90);

    await proveHistory(database.url);
    const unshadowed = await setReadMode(control, 'rollup').catch((error) => error);
    expect(unshadowed.details.unproven_days).toEqual([]);
    expect(unshadowed.message).toContain('comparisons');

    await setReadMode(control, 'shadow');
    await until(() => ledger.getReadMode()?.effective === 'shadow');
    const shadowed = await ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'user-1' });
    expect(shadowed.source.mode).toBe('raw');
    await compareInShadow(ledger, REQUIRED_COMPARISONS);
    expect((await setReadMode(control, 'rollup')).effective).toBe('rollup');
    await until(() => ledger.getReadMode()?.effective === 'rollup');
    const switched = await ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'user-1' });
    expect(switched).toEqual({
      averageMonthlyUsageUsd: shadowed.averageMonthlyUsageUsd,
      source: { ...switched.source, mode: 'rollup' },
    });

    await database.pool.query(
      `update microdollar_usage_daily set total_cost_microdollars = 1
       where (kilo_user_id, usage_date) in
         (select kilo_user_id, usage_date from microdollar_usage_daily limit 1)`,
    );
    await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP });
    await until(() => ledger.getReadMode()?.effective === 'raw');
    const refusedAgain = await setReadMode(control, 'rollup').catch((error) => error);
    expect(refusedAgain.details.obstacles.join()).toContain('drift was found');

    await repairRollup({ url: database.url, rollup: DAILY_ROLLUP });
    expect((await readReadMode(control.query)).gate.driftedDays).toEqual([]);
  });

  it('is refused after a shadow comparison that differed', async () => {
    await begin(provenHistory);
    const ledger = await openLedger();
    await setReadMode(control, 'shadow');
    await until(() => ledger.getReadMode()?.effective === 'shadow');
    await database.pool.query(
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 1
       where kilo_user_id = 'user-1' and organization_id is null`,
    );
    await compareInShadow(ledger, REQUIRED_COMPARISONS);
    const refusal = await setReadMode(control, 'rollup').catch((error) => error);
    expect(refusal.details.shadow_mismatches).toBeGreaterThan(0);
  });

  it('does not take a day for proven that was verified before it ended (I10)', async () => {
    await begin(provenHistory);
    const at = (time: string) =>
      database.pool.query(
        `update rollup_coverage
         set verified_at = (period::timestamp + $1::interval) at time zone 'UTC'
         where period = (now() at time zone 'UTC')::date - 5`,
        [time],
      );
    const unproven = async () => (await readReadMode(control.query)).gate.unprovenDays.length;
    await at('23:59:59');
    expect(await unproven()).toBe(1);
    await at('24:00:00');
    expect(await unproven()).toBe(0);
    await database.pool.query(
      `update rollup_coverage set drift_keys = 1
       where period = (now() at time zone 'UTC')::date - 5`,
    );
    expect(await unproven()).toBe(1);
  });

  it('begins to count comparisons anew', async () => {
    await begin(unprovenHistory);
    await database.pool.query('update ledger_settings set shadow_comparisons = 1000');
    await setReadMode(control, 'shadow');
    expect((await readReadMode(control.query)).gate.shadow.comparisons).toBe(0);
  });

  it('answers from raw while the lease of today and yesterday has run out', async () => {
    await begin(provenHistory);
    await database.pool.query(
      `update ledger_settings set read_mode = 'rollup', shadow_comparisons = 1000`,
    );
    const ledger = await openLedger();
    expect(ledger.getReadMode()).toMatchObject({ stored: 'rollup', effective: 'rollup' });
    await database.pool.query(
      `update rollup_coverage set verified_at = verified_at - interval '1 hour'
       where period = (now() at time zone 'UTC')::date`,
    );
    await until(() => ledger.getReadMode()?.effective === 'raw');
    expect(ledger.getReadMode()?.stored).toBe('rollup');
    await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP, from: await windowStart() });
    await until(() => ledger.getReadMode()?.effective === 'rollup');
  });

  it('is kept proven by the background verification', async () => {
    await begin(unprovenHistory);
    await runBackfill({ url: database.url, rollup: DAILY_ROLLUP, from: await windowStart() });
    const ledger = await createLedger({ databaseUrl: database.url, backgroundVerify: true });
    opened.push(ledger);
    await until(async () => (await readReadMode(control.query)).gate.unprovenDays.length < 80);
    const { rows } = await database.pool.query(
      `select verified_at is not null as is_verified from rollup_coverage
       where period >= (now() at time zone 'UTC')::date - 1
         and rollup = 'microdollar_usage_daily'`,
    );
    expect(rows).toEqual([{ is_verified: true }, { is_verified: true }]);
  });
});

describe('a process that follows the stored mode', () => {
  /** Polls go through until the primary is cut off; time is moved by hand. */
  async function startFollower() {
    const now = { monotonicMs: 5_000, wallMs: 1_000_000 };
    let isCut = false;
    /** How long the primary takes for an answer. */
    let takesMs = 0;
    const query: Query = async <Row>(statement: Parameters<Query>[0]) => {
      if (isCut) throw new Error('Connection terminated');
      const rows = await control.query<Row>(statement);
      now.monotonicMs += takesMs;
      now.wallMs += takesMs;
      return rows;
    };
    const follower = new ReadModeFollower(query, createMetrics(), {
      monotonicMs: () => now.monotonicMs,
      wallMs: () => now.wallMs,
    });
    await follower.poll();
    return {
      follower,
      now,
      cut: () => {
        isCut = true;
      },
      answersIn: (ms: number) => {
        takesMs = ms;
      },
    };
  }

  it('relies on the rollup until the lease that it saw has run out by its own clock', async () => {
    await begin(provenHistory);
    await database.pool.query(
      `update ledger_settings set read_mode = 'rollup', shadow_comparisons = 1000`,
    );
    await database.pool.query(
      `update rollup_coverage set verified_at = now() - interval '9 minutes 50 seconds'
       where period >= (now() at time zone 'UTC')::date - 1`,
    );
    const { follower, now, cut } = await startFollower();
    expect(follower.mode()).toBe('rollup');
    const leftMs = follower.status()?.gate.leaseLeftMs ?? 0;
    expect(leftMs).toBeLessThanOrEqual(10_000);
    cut();
    now.monotonicMs += leftMs - 1;
    expect(follower.mode()).toBe('rollup');
    now.monotonicMs += 1;
    expect(follower.mode()).toBe('raw');
    expect(follower.status()).toMatchObject({ stored: 'rollup', effective: 'raw' });
    expect(follower.status()?.reason).toContain('has not been seen');
    await expect(follower.poll()).rejects.toThrow('Connection terminated');
    expect(follower.mode()).toBe('raw');
  });

  it('counts a lease from before the question, however long the answer takes', async () => {
    await begin();
    const { follower, now, cut, answersIn } = await startFollower();
    answersIn(30_000);
    await follower.poll();
    cut();
    now.monotonicMs += 570_000 - 1;
    expect(follower.mode()).toBe('rollup');
    now.monotonicMs += 1;
    expect(follower.mode()).toBe('raw');
  });

  it('falls back at once when a comparison of its own differed, or drift is known', async () => {
    await begin();
    const { follower } = await startFollower();
    follower.note(false, () => 'user u: raw 1, rollup 2');
    await follower.poll();
    expect(follower.status()).toMatchObject({ stored: 'raw', effective: 'raw' });
    expect(follower.status()?.reason).toContain('user u: raw 1, rollup 2');

    // As a process notes it that ends before it has changed the mode.
    await database.pool.query(
      `update ledger_settings set read_mode = 'rollup', read_mode_reason = null`,
    );
    await database.pool.query(
      `insert into rollup_coverage (rollup, period, state, drift_keys)
       values ('microdollar_usage_daily', (now() at time zone 'UTC')::date - 3, 'built', 1)`,
    );
    await follower.poll();
    expect(follower.status()).toMatchObject({ stored: 'raw', effective: 'raw' });
    expect(follower.status()?.reason).toContain('drift was found');
  });

  it('counts time that the machine was suspended, and a clock that was set back', async () => {
    await begin();
    const { follower, now } = await startFollower();
    expect(follower.mode()).toBe('rollup');
    now.wallMs -= 3_600_000;
    now.monotonicMs += 599_000;
    expect(follower.mode()).toBe('rollup');
    now.monotonicMs += 1_000;
    expect(follower.mode()).toBe('raw');
    await follower.poll();
    expect(follower.mode()).toBe('rollup');
    now.wallMs += 600_000;
    expect(follower.mode()).toBe('raw');
    await follower.poll();
    expect(follower.mode()).toBe('rollup');
  });
});

describe('days in words', () => {
  it.each([
    [['2026-01-31', '2026-02-01', '2026-02-03'], '2026-01-31 to 2026-02-01, 2026-02-03'],
    [['2026-02-28', '2026-03-01'], '2026-02-28 to 2026-03-01'],
    [['2026-10-25', '2026-10-26'], '2026-10-25 to 2026-10-26'],
    [[], ''],
  ])('%j', (days, words) => {
    expect(describeDays(days)).toBe(words);
  });
});
