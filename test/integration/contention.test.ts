import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ContentionJob,
  distinctEvents,
  eventOf,
  expectedDuplicates,
  userId,
  type WorkerReport,
} from '../support/contentionWorkload.js';
import { asAdmin } from '../support/database.js';
import { inForm } from '../support/form.js';
import { sampleWriteWaits, type WriteWait } from '../support/lockSampler.js';
import { openPool } from '../support/openPool.js';
import { programPath } from '../support/programs.js';
import { SEED_UPSERT } from '../support/seedUpsert.sql.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * Exactness under contention: four processes with 64 callers each, on one database.
 * `CONTENTION_SCALE=20` runs thirty times the events of the full form.
 */
const SCALE = Number(process.env.CONTENTION_SCALE ?? inForm(0.1, 0.6));
const CALLERS = 64;
/** Time zone of a worker's process and of its sessions; one more worker than zones. */
const ZONES = ['UTC', 'America/New_York', 'Asia/Kolkata', 'UTC'] as const;
/** What JavaScript makes of them in January 1970, minutes. */
const OFFSETS_MINUTES = [0, 300, -330, 0];
const WORKER = 'test/support/contentionWorker.ts';

interface Worker {
  child: ChildProcess;
  /** Resolves when the worker stands ready to begin. */
  prepare(job: ContentionJob): Promise<void>;
  run(): Promise<WorkerReport>;
}

let fixture: LedgerFixture;
let workers: Worker[];
let roles: string[] = [];

beforeAll(async () => {
  fixture = await createLedgerFixture();
  roles = ZONES.map((_, index) => `worker_${randomBytes(4).toString('hex')}_${index}`);
  await asAdmin(async (client) => {
    for (const [index, role] of roles.entries()) {
      await client.query(`create role ${role} superuser login password 'test'`);
      await client.query(`alter role ${role} set timezone = '${ZONES[index]}'`);
    }
  });
  workers = roles.map((role, index) => startWorker(role, ZONES[index] ?? 'UTC', index));
});

afterAll(async () => {
  await Promise.all(
    workers.map(async ({ child }) => {
      child.stdin?.end();
      if (child.exitCode === null) await once(child, 'exit');
    }),
  );
  await fixture.close();
  await asAdmin(async (client) => {
    for (const role of roles) await client.query(`drop role ${role}`);
  });
});

function startWorker(role: string, zone: string, index: number): Worker {
  const url = new URL(fixture.database.url);
  url.username = role;
  url.password = 'test';
  const child = spawn(process.execPath, [programPath(WORKER), url.href, String(index)], {
    env: { ...process.env, TZ: zone },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface(child.stdout)[Symbol.asyncIterator]();
  const nextAnswer = async () => {
    const { value, done } = await answers.next();
    if (done) throw new Error(`worker ${index} ended with ${child.exitCode}`);
    return JSON.parse(value);
  };
  return {
    child,
    prepare: async (job) => {
      child.stdin.write(`${JSON.stringify(job)}\n`);
      expect(await nextAnswer()).toBe('ready');
    },
    run: async () => {
      child.stdin.write('go\n');
      return (await nextAnswer()) as WorkerReport;
    },
  };
}

interface Scenario {
  name: string;
  job: Omit<ContentionJob, 'round' | 'organizationIds' | 'processes' | 'callers'>;
  organizations: number;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'one hot user, personal and organization',
    job: { users: 1, organizationShare: 0.3, eventsPerCaller: 10, duplicates: 'afterAnswer' },
    organizations: 1,
  },
  {
    name: 'one organization with 50 users',
    job: { users: 50, organizationShare: 0.9, eventsPerCaller: 10, duplicates: 'afterAnswer' },
    organizations: 1,
  },
  {
    name: 'one hot user, one event a statement',
    job: {
      users: 1,
      organizationShare: 0.3,
      eventsPerCaller: 6,
      duplicates: 'afterAnswer',
      groupCommit: false,
    },
    organizations: 1,
  },
  {
    name: 'one hot user, settled in the background',
    job: {
      users: 1,
      organizationShare: 0.3,
      eventsPerCaller: 6,
      duplicates: 'afterAnswer',
      appendAlways: true,
    },
    organizations: 1,
  },
  {
    name: '50 users, without balances',
    job: {
      users: 50,
      organizationShare: 0.3,
      eventsPerCaller: 10,
      duplicates: 'afterAnswer',
      through: 'ledger without balances',
    },
    organizations: 1,
  },
  {
    name: "a few hot users, by pools of the hosts' own",
    job: {
      users: 4,
      organizationShare: 0.3,
      eventsPerCaller: 6,
      duplicates: 'afterAnswer',
      through: 'pool',
    },
    organizations: 1,
  },
  {
    name: 'the same events from every process at once, alone and in batches',
    job: { users: 20, organizationShare: 0.5, eventsPerCaller: 16, duplicates: 'twins' },
    organizations: 2,
  },
  // Last: every check after it looks at all of them.
  {
    name: '10,000 users',
    job: { users: 10_000, organizationShare: 0.3, eventsPerCaller: 10, duplicates: 'afterAnswer' },
    organizations: 3,
  },
];

async function setUp({ job, organizations }: Scenario): Promise<ContentionJob> {
  const round = randomBytes(4).toString('hex');
  const organizationIds: string[] = [];
  for (let index = 0; index < organizations; index++) {
    organizationIds.push(await fixture.addOrganization());
  }
  await fixture.rows(
    `insert into kilocode_users (id)
     select $1 || ' user ' || n from generate_series(0, $2::integer - 1) as n`,
    [round, job.users],
  );
  expect(userId(round, 0)).toBe(`${round} user 0`);
  return {
    ...job,
    round,
    organizationIds,
    processes: ZONES.length,
    callers: CALLERS,
    eventsPerCaller: Math.ceil(job.eventsPerCaller * SCALE),
  };
}

/** Totals per user, organization and UTC day as the workload's definition gives them. */
function expectedTotals(job: ContentionJob): Map<string, number> {
  const totals = new Map<string, number>();
  for (let index = 0; index < distinctEvents(job); index++) {
    const { kilo_user_id, organization_id, created_at, cost } = eventOf(job, index);
    const day = (created_at as string).slice(0, 10);
    const key = `${kilo_user_id}|${organization_id ?? ''}|${day}`;
    totals.set(key, (totals.get(key) ?? 0) + cost);
  }
  for (const [key, total] of totals) if (total === 0) totals.delete(key);
  return totals;
}

async function reportedTotals(job: ContentionJob): Promise<Map<string, number>> {
  const rows = await fixture.rows<{ key: string; total: string }>(
    `select kilo_user_id || '|' || coalesce(organization_id::text, '') || '|' || usage_date as key,
       total_cost_microdollars as total
     from microdollar_usage_daily_exact
     where starts_with(kilo_user_id, $1)
       and total_cost_microdollars <> 0`,
    [job.round],
  );
  return new Map(rows.map((row) => [row.key, Number(row.total)]));
}

describe(`${ZONES.length} processes with ${CALLERS} callers each`, () => {
  it.each(SCENARIOS)('are exact, and nobody waits: $name', async (scenario) => {
    const waits: WriteWait[] = [];
    let job: ContentionJob;
    let reports: WorkerReport[] = [];
    let samples = 0;
    // A busy machine may look too seldom, or let one process after the other run: that shows nothing.
    do {
      const prepared = await setUp(scenario);
      job = prepared;
      await Promise.all(workers.map((worker) => worker.prepare(prepared)));
      const sampled = await sampleWriteWaits(fixture.database.pool, async () => {
        reports = await Promise.all(workers.map((worker) => worker.run()));
      });
      waits.push(...sampled.waits);
      samples = sampled.samples;
      expect(reports.flatMap(({ errors }) => errors)).toEqual([]);
    } while (samples <= 10 || reports.filter(({ recorded }) => recorded > 0).length < 2);

    expect(reports.map(({ offsetMinutes }) => offsetMinutes)).toEqual(OFFSETS_MINUTES);
    expect(reports.map(({ sessionTimeZone }) => sessionTimeZone)).toEqual(ZONES);
    const sum = (of: 'recorded' | 'duplicates') =>
      reports.reduce((total, report) => total + report[of], 0);
    expect(sum('recorded')).toBe(distinctEvents(job));
    expect(sum('duplicates')).toBe(expectedDuplicates(job));
    const mayMeetTwins = job.duplicates === 'twins';
    const causes = reports.flatMap(({ retries }) => Object.keys(retries));
    // A statement gives up a wait after milliseconds, also one for a file that a writer extends
    // who lost the processor. Whether any waits for another's row is what the samples below tell.
    expect(causes.filter((cause) => cause !== '55P03')).toEqual([]);

    const isAllowed = (wait: (typeof waits)[number]) =>
      // Only twins may wait, for each other: for the transaction that inserts the same id (I4).
      mayMeetTwins &&
      wait.counterTable === null &&
      ['transactionid', 'spectoken'].includes(wait.lockType) &&
      wait.query.includes('microdollar.append') &&
      (wait.blockerQuery === null || wait.blockerQuery.includes('microdollar.append'));
    expect(waits.filter((wait) => !isAllowed(wait))).toEqual([]);
    const [{ deadlocks } = { deadlocks: null }] = await fixture.rows<{ deadlocks: string }>(
      'select deadlocks from pg_stat_database where datname = current_database()',
    );
    expect(deadlocks).toBe('0');

    expect(await reportedTotals(job)).toEqual(expectedTotals(job));
    await fixture.expectExact();
    expect(await reportedTotals(job)).toEqual(expectedTotals(job));
  });
});

describe('the sampler', () => {
  it("sees the writers of the seed's statement wait for one another", async () => {
    const user = await fixture.addUser();
    const pool = openPool({ connectionString: fixture.database.url, max: 5 });
    const first = await pool.connect();
    const write = (client: pg.Pool | pg.PoolClient) =>
      client.query(SEED_UPSERT, [randomUUID(), user, 1, null]);
    await write(pool);
    const { waits } = await sampleWriteWaits(
      fixture.database.pool,
      async ({ waits: seen }) => {
        // One writer is slow to commit; it does so once the others were seen waiting.
        await first.query('begin');
        await write(first);
        const others = Promise.all([1, 2, 3, 4].map(() => write(pool)));
        while (seen.length === 0) await sleep(5);
        await first.query('commit');
        await others;
      },
      'with usage as \\(',
    );
    first.release();
    await pool.end();
    const tables = new Set(waits.map(({ counterTable }) => counterTable));
    expect(tables.has('kilocode_users') || tables.has('microdollar_usage_daily')).toBe(true);
    await fixture.expectExact();
  });
});
