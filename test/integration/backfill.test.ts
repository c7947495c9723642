import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { planBackfill, runBackfill, setBackfillPaused } from '../../src/rollup/backfill.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP, EXA_ROLLUP } from '../../src/schema/rollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { programPath } from '../support/programs.js';
import { RAW_ORGANIZATION, writeRawHistory } from '../support/rawUsage.js';
import { openRelay } from '../support/relay.js';

/**
 * The size of the history. The full form (10 million rows over 100 days and 50,000 users, 20
 * kills): BACKFILL_ROWS=10000000 BACKFILL_KILLS=20 npx vitest run test/integration/backfill.test.ts
 */
const ROWS = Number(process.env.BACKFILL_ROWS ?? inForm(4_000, 30_000));
const KILLS = Number(process.env.BACKFILL_KILLS ?? inForm(2, 3));
const DAYS = ROWS >= 1_000_000 ? 100 : 20;
const USERS = ROWS >= 1_000_000 ? 50_000 : inForm(300, 1_000);
const WORKER = 'test/support/backfillWorker.ts';
const LONG_MS = 30 * 60_000;
/** Before every history here: the days since, and not all that a rollup covers by itself. */
const FROM = new Date(Date.now() - (DAYS + 1) * 86_400_000).toISOString().slice(0, 10);

let database: TestDatabase;
const ledgers: Ledger[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  for (const ledger of ledgers.splice(0)) await ledger.close();
  await database.drop();
});

function startWorker(): ChildProcess {
  return spawn(process.execPath, [programPath(WORKER), database.url], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Writes until told to stop: now and into old days, hot and cold users, both scopes. */
async function startWriters(users: number, days: number): Promise<() => Promise<number>> {
  const ledger = await createLedger({ databaseUrl: database.url, poolSize: 4 });
  ledgers.push(ledger);
  let isStopping = false;
  let written = 0;
  const write = async () => {
    while (!isStopping) {
      const ageDays = Math.random() < 0.5 ? 0 : Math.random() * days;
      const user = Math.random() < 0.3 ? 1 : 1 + Math.floor(Math.random() * users);
      await ledger.recordUsage({
        kilo_user_id: `user-${user}`,
        organization_id: Math.random() < 0.3 ? RAW_ORGANIZATION : null,
        cost: Math.floor(Math.random() * 3000) - 200,
        created_at: new Date(Date.now() - ageDays * 86_400_000),
      });
      written++;
      await sleep(inForm(10, 2));
    }
  };
  const writers = Promise.all(Array.from({ length: 4 }, write));
  return async () => {
    isStopping = true;
    await writers;
    await ledger.fold();
    return written;
  };
}

/** Days from the start of the three-month window, or of a longer history, until today. */
async function coveredDays(historyDays = 0): Promise<number> {
  const { rows } = await database.pool.query(
    `select (now() at time zone 'UTC')::date
       - ((now() at time zone 'UTC')::date - interval '3 months')::date + 1 as days`,
  );
  return Math.max(rows[0].days, historyDays + 1);
}

async function expectExact(): Promise<void> {
  const report = await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP, from: FROM });
  expect(report.drifts).toEqual([]);
  expect(report.driftKeys).toBe(0);
  await verifyBalances({ url: database.url, repair: true });
  expect(await checkInvariants(database.pool)).toEqual([]);
}

describe('backfill beside live writers', () => {
  it('ends exact though its process is killed at random moments', {
    timeout: LONG_MS,
  }, async () => {
    await writeRawHistory(database.pool, { rows: ROWS, days: DAYS, users: USERS });
    const stopWriters = await startWriters(USERS, DAYS);
    for (let kill = 0; kill < KILLS; kill++) {
      const worker = startWorker();
      const ended = once(worker, 'exit');
      await once(worker.stdout as NodeJS.ReadableStream, 'data');
      const aliveMs = 50 + Math.random() * (ROWS / 400);
      await Promise.race([ended, sleep(aliveMs)]);
      worker.kill('SIGKILL');
      await ended;
    }
    // A killed worker's claims run out; so that nobody waits for that here, they are given back.
    await database.pool.query('update rollup_coverage set claimed_until = now()');
    await runBackfill({ url: database.url, rollup: DAILY_ROLLUP });
    expect(await stopWriters()).toBeGreaterThan(0);
    const { rows } = await database.pool.query(
      `select state, count(*)::int as days from rollup_coverage
       where rollup = 'microdollar_usage_daily' group by state`,
    );
    expect(rows).toEqual([{ state: 'built', days: await coveredDays(DAYS) }]);
    await expectExact();
  });

  it('shares the work with a second backfill and doubles nothing', {
    timeout: LONG_MS,
  }, async () => {
    await writeRawHistory(database.pool, {
      rows: inForm(4_000, 20_000),
      days: 10,
      users: inForm(100, 300),
    });
    const stopWriters = await startWriters(inForm(100, 300), 10);
    const run = () => runBackfill({ url: database.url, rollup: DAILY_ROLLUP });
    const worker = startWorker();
    const ended = once(worker, 'exit');
    const reports = await Promise.all([run(), run()]);
    expect((await ended)[0]).toBe(0);
    await stopWriters();
    const built = reports.reduce((sum, report) => sum + report.periods, 0);
    expect(built).toBeLessThanOrEqual(await coveredDays());
    await expectExact();
  });

  it('leaves a row that is held by another session, and takes it the next time', async () => {
    await writeRawHistory(database.pool, { rows: 500, days: 2, users: 5 });
    await runBackfill({ url: database.url, rollup: DAILY_ROLLUP, from: FROM });
    await database.pool.query(
      `update rollup_coverage set state = 'unbuilt', done_until_user = null`,
    );
    await database.pool.query(
      'update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 1',
    );
    const holder = await database.pool.connect();
    await holder.query('begin');
    await holder.query(
      `select from microdollar_usage_daily where kilo_user_id = 'user-1' for update`,
    );
    const first = await runBackfill({ url: database.url, rollup: DAILY_ROLLUP, from: FROM });
    expect(first.left).toBeGreaterThan(0);
    await holder.query('rollback');
    holder.release();
    const second = await runBackfill({ url: database.url, rollup: DAILY_ROLLUP, from: FROM });
    expect(second.left).toBe(0);
    await expectExact();
  });

  it('writes little at a time while others are at work, and whole days alone', async () => {
    await writeRawHistory(database.pool, { rows: 8_000, days: 2, users: 2_400 });
    const chunksByDay = async () => {
      const chunks = new Map<string | null, number>();
      await runBackfill({
        url: database.url,
        rollup: DAILY_ROLLUP,
        from: FROM,
        workers: 1,
        onProgress: ({ period }) => chunks.set(period, (chunks.get(period) ?? 0) + 1),
      });
      return Math.max(...chunks.values());
    };
    const working = await database.pool.connect();
    const others = working.query('select pg_sleep(600)').catch(() => {});
    expect(await chunksByDay()).toBeGreaterThan(3);
    await database.pool.query(
      `select pg_cancel_backend(pid) from pg_stat_activity
       where datname = current_database() and query = 'select pg_sleep(600)'`,
    );
    await others;
    working.release(true);
    await database.pool.query('truncate rollup_coverage, microdollar_usage_daily');
    await sleep(250);
    expect(await chunksByDay()).toBe(1);
    await verifyBalances({ url: database.url, repair: true });
    expect(await checkInvariants(database.pool)).toEqual([]);
  });

  it('cannot hold a transaction for 2 s: the server would cut it', async () => {
    const bulk = openRollupDatabase(database.url, 1);
    try {
      const [row] = await bulk.query<{ statement_timeout: string; lock_timeout: string }>({
        name: 'settings',
        text: `select current_setting('statement_timeout') as statement_timeout,
          current_setting('lock_timeout') as lock_timeout`,
        values: [],
      });
      expect(row).toEqual({ statement_timeout: '1900ms', lock_timeout: '500ms' });
    } finally {
      await bulk.close();
    }
  });
});

describe('a rolling deploy', () => {
  it('absorbs what an old version writes beside the new one', { timeout: LONG_MS }, async () => {
    await writeRawHistory(database.pool, { rows: inForm(1_500, 5_000), days: 10, users: 100 });
    const stopWriters = await startWriters(100, 10);
    let isOld = true;
    const oldVersion = (async () => {
      while (isOld) {
        await database.pool.query(
          `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
           values (gen_random_uuid(), 'user-' || (1 + floor(random() * 100)), 11,
             now() - interval '1 day' * random() * 9)`,
        );
        await sleep(2);
      }
    })();
    await runBackfill({ url: database.url, rollup: DAILY_ROLLUP, from: FROM });
    isOld = false;
    await oldVersion;
    const behind = await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP, from: FROM });
    // The old version went on into days that were built already.
    expect(behind.driftKeys).toBeGreaterThan(0);
    await database.pool.query(
      `update rollup_coverage set state = 'unbuilt', done_until_user = null`,
    );
    await runBackfill({ url: database.url, rollup: DAILY_ROLLUP, from: FROM });
    await stopWriters();
    await expectExact();
  });
});

describe('control of a backfill', () => {
  it('pauses between two chunks and resumes', async () => {
    await writeRawHistory(database.pool, { rows: 3_000, days: 5, users: 50 });
    const control = openRollupDatabase(database.url, 1);
    try {
      await setBackfillPaused(control, DAILY_ROLLUP, true);
      const notices: string[] = [];
      let isDone = false;
      let sayPaused: () => void = () => {};
      const paused = new Promise<void>((resolve) => {
        sayPaused = resolve;
      });
      const running = runBackfill({
        url: database.url,
        rollup: DAILY_ROLLUP,
        onNotice: (message) => {
          notices.push(message);
          sayPaused();
        },
      }).then((report) => {
        isDone = true;
        return report;
      });
      await paused;
      expect(isDone).toBe(false);
      expect(notices[0]).toContain('paused');
      await setBackfillPaused(control, DAILY_ROLLUP, false);
      expect((await running).periods).toBe(await coveredDays());
    } finally {
      await control.close();
    }
    await expectExact();
  });

  it('says beforehand what there is to do, and does nothing', async () => {
    await writeRawHistory(database.pool, { rows: 100, days: 3, users: 5 });
    const plan = await planBackfill({ url: database.url, rollup: DAILY_ROLLUP });
    expect(plan.periods).toBe(await coveredDays());
    const { rows } = await database.pool.query('select from rollup_coverage');
    expect(rows).toEqual([]);
  });

  it('stops when told to and goes on later', async () => {
    await writeRawHistory(database.pool, { rows: 3_000, days: 12, users: 50 });
    const abort = new AbortController();
    const first = await runBackfill({
      url: database.url,
      rollup: DAILY_ROLLUP,
      workers: 1,
      signal: abort.signal,
      onProgress: (progress) => {
        if (progress.periodsDone >= 3) abort.abort();
      },
    });
    expect(first.periods).toBeLessThan(await coveredDays());
    const second = await runBackfill({ url: database.url, rollup: DAILY_ROLLUP });
    expect(first.periods + second.periods).toBe(await coveredDays());
    await expectExact();
  });

  it.each([
    ['backwards', { from: '2026-03-02', until: '2026-03-01' }, 'from'],
    ['in the future', { until: '2999-01-01' }, 'until'],
    ['malformed', { from: 'yesterday' }, 'from'],
    ['no day of the calendar', { from: '2026-02-30' }, 'from'],
  ])('refuses a range that is %s', async (_, range, field) => {
    const running = runBackfill({ url: database.url, rollup: DAILY_ROLLUP, ...range });
    await expect(running).rejects.toMatchObject({ code: 'invalid_request', details: { field } });
  });

  it('refuses a database without migrations, naming the remedy', async () => {
    const bare = await createTestDatabase({ empty: true });
    try {
      await expect(runBackfill({ url: bare.url, rollup: DAILY_ROLLUP })).rejects.toThrow(
        /microdollar migrate/,
      );
    } finally {
      await bare.drop();
    }
  });

  it('waits for a database that went away, says so, and goes on', async () => {
    await writeRawHistory(database.pool, { rows: 8_000, days: 20, users: 50 });
    const relay = await openRelay(database.url);
    const notices: string[] = [];
    let cuts = 0;
    let isCut = false;
    const report = await runBackfill({
      url: relay.url,
      rollup: DAILY_ROLLUP,
      workers: 1,
      onNotice: (message) => {
        notices.push(message);
        if (!isCut) return;
        isCut = false;
        void relay.restore();
      },
      onProgress: (progress) => {
        if (isCut || cuts >= 3 || progress.periodsDone < cuts * 4) return;
        cuts++;
        isCut = true;
        void relay.cut();
      },
    });
    await relay.close();
    expect(cuts).toBe(3);
    expect(report.periods).toBe(await coveredDays());
    expect(notices.join()).toContain('waiting for the database');
    await expectExact();
  });
});

describe('the monthly Exa counter', () => {
  it('is built and verified by the same mechanism', async () => {
    await database.pool.query(`insert into kilocode_users (id) values ('exa-1'), ('exa-2')`);
    await database.pool.query(
      `insert into exa_usage_log (id, kilo_user_id, cost, path, created_at)
       select gen_random_uuid(), 'exa-' || (1 + i % 2), i * 1000, '/search',
         now() - interval '1 day' * i
       from generate_series(0, 99) as i`,
    );
    const before = await verifyRollup({ url: database.url, rollup: EXA_ROLLUP });
    expect(before.driftKeys).toBeGreaterThan(0);
    await runBackfill({ url: database.url, rollup: EXA_ROLLUP });
    const after = await verifyRollup({ url: database.url, rollup: EXA_ROLLUP });
    expect(after.drifts).toEqual([]);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });
});
