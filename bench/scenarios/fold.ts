import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { createLedger } from '../../src/ledger.js';
import { checkFolded } from '../../test/support/checkInvariants.js';
import { ledgerDifferences } from '../lib/baselines/totals.js';
import type { Bench } from '../lib/bench.js';
import { eventSource, type Population } from '../lib/population.js';
import { zipf } from '../lib/random.js';
import type { Findings, Scenario } from '../lib/scenario.js';
import { median, round } from '../lib/statistics.js';

const USERS = 1_000;
const POPULATION: Population = { users: USERS, draw: (random) => zipf(USERS, 1, random) };
const CALLERS = 32;
/** 100 contended appends a second, for an hour. */
const HOUR_OF_APPENDS = 360_000;
const SAMPLE_MS = 1_000;

export const fold: Scenario = {
  name: 'fold',
  title: 'The fold after an hour of contended appends',
  question:
    'Does the fold keep up, how fast does it drain a backlog, and how much do the tables bloat?',
  workload: `${HOUR_OF_APPENDS.toLocaleString('en-US')} events (100 a second for an hour) of
${USERS} users (Zipf), all appended, as fast as ${CALLERS} callers go, with the fold running. Then as
many unsettled rows at once, as if the fold had stood still for that hour, drained alone.`,
  baseline: 'None: sizes of the tables, and rows a second.',
  run,
};

interface Sample {
  seconds: number;
  depth: number;
  pendingBytes: number;
  counterBytes: number;
}

async function run(bench: Bench): Promise<Findings> {
  const appends = bench.pick(HOUR_OF_APPENDS, 10_000);
  const [database] = await bench.createDatabases(POPULATION, 1);
  if (!database) throw new Error('no database');
  const { admin } = database;
  const before = await readSizes(admin);
  const live = await appendWithFold(database.url, admin, appends);
  const differences = [...(await ledgerDifferences(admin)), ...(await checkFolded(admin))];
  const afterLive = await readSizes(admin);
  const perEvent = await readBytesPerEvent(admin);
  const backlog = await drainBacklog(bench, database.url, admin, appends);
  differences.push(...(await checkFolded(admin)));
  const afterBacklog = await readSizes(admin);
  await admin.query('vacuum microdollar_usage');
  await admin.query('vacuum microdollar_usage_daily');
  await admin.query('vacuum kilocode_users');
  const afterVacuum = await readSizes(admin);
  await database.drop();

  const depths = live.samples.map((sample) => sample.depth);
  return {
    tables: [
      {
        title: 'Appends with the fold running, and a backlog drained alone',
        columns: ['figure', 'value'],
        rows: [
          ['appends a second, fold running', Math.round(appends / live.writeSeconds)],
          ['unsettled rows meanwhile, p50', median(depths)],
          ['unsettled rows meanwhile, at most', Math.max(...depths)],
          ['seconds until drained after the last append', round(live.drainSeconds, 2)],
          ['backlog, unsettled rows', appends],
          ['backlog drained, rows a second', Math.round(appends / backlog.seconds)],
        ],
      },
      {
        title: 'Bytes an event in the log (ids of version 7, in order)',
        columns: ['relation', 'bytes'],
        rows: perEvent.map(({ name, bytes }) => [name, Math.round(bytes)]),
      },
      {
        title: 'Table size with indexes (MB)',
        columns: ['moment', 'index of unsettled rows', 'daily rollup', 'users'],
        rows: [
          ['before', ...toMegabytes(before)],
          ['after the appends', ...toMegabytes(afterLive)],
          ['after the backlog', ...toMegabytes(afterBacklog)],
          ['after a vacuum', ...toMegabytes(afterVacuum)],
        ],
      },
    ],
    charts: [
      {
        type: 'line',
        name: 'depth',
        title: 'Unsettled rows while appending, fold running',
        xLabel: 'seconds',
        yLabel: 'unsettled rows',
        lines: [
          {
            label: 'unsettled rows',
            kind: 'ours',
            points: live.samples.map(({ seconds, depth }): [number, number] => [seconds, depth]),
          },
        ],
      },
      {
        type: 'line',
        name: 'size',
        title: 'Size of the index of unsettled rows, fold running',
        xLabel: 'seconds',
        yLabel: 'MB',
        lines: [
          {
            label: 'index',
            kind: 'ours',
            points: live.samples.map(({ seconds, pendingBytes }): [number, number] => [
              seconds,
              round(pendingBytes / 1e6, 3),
            ]),
          },
        ],
      },
    ],
    checks: [
      {
        name: 'the fold kept up',
        ok: Math.max(...depths) < appends / 10 && live.drainSeconds < 5,
        detail: `at most ${Math.max(...depths)} of ${appends} rows unsettled`,
      },
      {
        name: 'totals equal raw usage, base tables equal the views',
        ok: differences.length === 0,
        detail: differences.length === 0 ? `${appends} events` : differences.slice(0, 3).join('; '),
      },
    ],
  };
}

async function appendWithFold(url: string, admin: pg.Pool, appends: number) {
  const ledger = await createLedger({
    databaseUrl: url,
    poolSize: CALLERS,
    groupCommit: false,
    appendAlways: true,
  });
  const nextEvent = eventSource(POPULATION, 21);
  const samples: Sample[] = [];
  const startedAt = performance.now();
  let left = appends;
  const caller = async () => {
    while (left-- > 0) await ledger.recordUsage(nextEvent());
  };
  let isWriting = true;
  const sampling = (async () => {
    while (isWriting) {
      samples.push({
        seconds: round((performance.now() - startedAt) / 1_000),
        depth: (await ledger.getPendingStatus()).depth,
        ...(await readSizes(admin)),
      });
      await sleep(SAMPLE_MS);
    }
  })();
  await Promise.all(Array.from({ length: CALLERS }, caller));
  const writtenAt = performance.now();
  isWriting = false;
  await ledger.fold();
  const drainedAt = performance.now();
  await sampling;
  await ledger.close();
  return {
    samples,
    writeSeconds: (writtenAt - startedAt) / 1_000,
    drainSeconds: (drainedAt - writtenAt) / 1_000,
  };
}

/** Unsettled rows, as writers leave them. */
async function drainBacklog(bench: Bench, url: string, admin: pg.Pool, rows: number) {
  await admin.query(
    `insert into microdollar_usage (id, kilo_user_id, cost, position)
    select gen_random_uuid(),
      'user-' || lpad((1 + floor(power($2::double precision, random())))::integer::text, 7, '0'),
      1 + floor(random() * 1000)::bigint, microdollar_position()
    from generate_series(1, $1::integer)`,
    [rows, USERS - 1],
  );
  const ledger = await createLedger({ databaseUrl: url, backgroundFold: false });
  const startedAt = performance.now();
  const report = await ledger.fold();
  const seconds = (performance.now() - startedAt) / 1_000;
  bench.log(`  drained ${report.drained} rows in ${seconds.toFixed(1)} s`);
  await ledger.close();
  return { seconds };
}

/** Of the usage table, each of its indexes, and its metadata with theirs. */
async function readBytesPerEvent(admin: pg.Pool): Promise<{ name: string; bytes: number }[]> {
  const { rows } = await admin.query<{ name: string; bytes: number }>(
    `with log as (select count(*) as events from microdollar_usage)
    select c.relname as name,
      case when c.relname = 'microdollar_usage_metadata' then pg_total_relation_size(c.oid)
        else pg_relation_size(c.oid) end::float8 / log.events as bytes
    from log, pg_class as c
    where c.relname in ('microdollar_usage', 'microdollar_usage_metadata')
      or c.oid in (
        select indexrelid from pg_index where indrelid = 'microdollar_usage'::regclass
      )
    order by c.relkind desc, bytes desc`,
  );
  return rows;
}

interface Sizes {
  pendingBytes: number;
  counterBytes: number;
  userBytes: number;
}

async function readSizes(admin: pg.Pool): Promise<Sizes> {
  const result = await admin.query<Record<keyof Sizes, string>>(
    `select pg_relation_size('idx_microdollar_usage_unsettled') as "pendingBytes",
      pg_total_relation_size('microdollar_usage_daily') as "counterBytes",
      pg_total_relation_size('kilocode_users') as "userBytes"`,
  );
  const row = result.rows[0] as Record<keyof Sizes, string>;
  return {
    pendingBytes: Number(row.pendingBytes),
    counterBytes: Number(row.counterBytes),
    userBytes: Number(row.userBytes),
  };
}

function toMegabytes({ pendingBytes, counterBytes, userBytes }: Sizes): number[] {
  return [pendingBytes, counterBytes, userBytes].map((bytes) => round(bytes / 1e6, 3));
}
