import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { readArchive } from '../../src/rollup/archive/readFile.js';
import type { ArchiveReport } from '../../src/rollup/archive/types.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { buildDimensions } from '../../src/rollup/dimensions/build.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DIMENSION_ROLLUPS } from '../../src/schema/dimensionRollups.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import type { Check, Findings, Scenario } from '../lib/scenario.js';
import { round } from '../lib/statistics.js';

const DAYS = 100;
const ROWS_PER_USER = 200;
/** What operators asked for. */
const ASKED_ROWS_PER_SECOND = 10_000;

export const archive: Scenario = {
  name: 'archive',
  title: 'Archiving old usage',
  question: 'How long does it take to move proven days to files, on an idle database?',
  workload: `Raw usage over ${DAYS} days, ${ROWS_PER_USER} rows per user, each with metadata; built and
verified before. The older half of the days is archived: verified once more, written, read back, deleted.`,
  baseline: `${ASKED_ROWS_PER_SECOND.toLocaleString('en-US')} rows a second, asked for before there was one.`,
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const rows = bench.pick(bench.options.large ? 10_000_000 : 3_000_000, 20_000);
  const database = await bench.createDatabase();
  const directory = await mkdtemp(path.join(tmpdir(), 'microdollar-bench-archive-'));
  try {
    bench.log(`  loading ${rows} rows`);
    await loadHistory(database, rows);
    await bench.checkpoint();
    const before = await readTotals(database);
    const report = await archiveHalf(database, directory);
    const rate = report.rows / (report.durationMs / 1_000);
    bench.log(`  ${report.rows} rows in ${report.files} files: ${Math.round(rate)} rows/s`);
    return {
      comparisons: [
        {
          subject: `archive, ${rows / 2_000_000} of ${rows / 1_000_000} million rows`,
          baseline: 'asked for',
          measure: 'rows/s',
          ratios: [round(rate / ASKED_ROWS_PER_SECOND)],
          target: { atLeast: 1 },
        },
      ],
      tables: [toTable(report, rate)],
      checks: await toChecks(database, directory, { before, report }),
    };
  } finally {
    await database.drop();
    await rm(directory, { recursive: true, force: true });
  }
}

async function loadHistory({ admin, url }: BenchDatabase, rows: number): Promise<void> {
  const users = rows / ROWS_PER_USER;
  await admin.query(
    `insert into kilocode_users (id) select 'user-' || i from generate_series(0, $1::integer - 1) as i`,
    [users],
  );
  await admin.query(
    `insert into microdollar_usage (id, kilo_user_id, cost, provider, model, input_tokens,
       output_tokens, created_at)
     select gen_random_uuid(), 'user-' || (i * 7919) % $2, 1 + (i * 104729) % 100000, 'openai',
       'model-' || i % 7, 4000, 100,
       now() - interval '2 hours' - make_interval(secs => ${DAYS} * 86400.0 * (1 - i::float8 / $1))
     from generate_series(0, $1::bigint - 1) as i`,
    [rows, users],
  );
  await admin.query(
    `insert into microdollar_usage_metadata (id, kilo_user_id, created_at, message_id, status_code,
       latency)
     select id, kilo_user_id, created_at, 'message', 200, 1 from microdollar_usage`,
  );
  await admin.query('vacuum (analyze)');
  await runBackfill({ url, rollup: DAILY_ROLLUP });
  for (const rollup of DIMENSION_ROLLUPS) await buildDimensions({ url, rollup });
  await verifyRollup({ url, rollup: DAILY_ROLLUP });
}

function archiveHalf({ url }: BenchDatabase, directory: string): Promise<ArchiveReport> {
  const until = new Date(Date.now() - (DAYS / 2) * 86_400_000).toISOString().slice(0, 10);
  return archiveUsage({ url, until, directory });
}

interface Totals {
  rows: number;
  /** Of every day, as reported. */
  cost: string;
}

async function readTotals({ admin }: BenchDatabase): Promise<Totals> {
  const { rows } = await admin.query<Totals>(
    `select (select count(*)::integer from microdollar_usage) as rows,
      (select sum(total_cost_microdollars)::text from microdollar_usage_daily_exact) as cost`,
  );
  return rows[0] ?? { rows: 0, cost: '' };
}

function toTable(report: ArchiveReport, rate: number) {
  return {
    title: 'The archive',
    columns: ['', 'rows', 'files', 'seconds', 'rows/s', 'longest transaction ms'],
    rows: [
      [
        `${report.days} days`,
        report.rows,
        report.files,
        round(report.durationMs / 1_000, 3),
        Math.round(rate),
        Math.round(report.longestTransactionMs),
      ],
    ],
  };
}

async function toChecks(
  database: BenchDatabase,
  directory: string,
  { before, report }: { before: Totals; report: ArchiveReport },
): Promise<Check[]> {
  const after = await readTotals(database);
  let inFiles = 0;
  for await (const _event of readArchive(directory)) inFiles++;
  const { driftKeys } = await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP });
  return [
    {
      name: 'every row is in a file or in the table, once',
      ok: inFiles === report.rows && after.rows + inFiles === before.rows,
      detail: `${inFiles} in files, ${after.rows} in the table, ${before.rows} before`,
    },
    {
      name: 'what is reported stays',
      ok: after.cost === before.cost,
      detail: `${before.cost} before, ${after.cost} after`,
    },
    { name: 'verify finds no drift', ok: driftKeys === 0, detail: `${driftKeys} wrong keys` },
    { name: 'no day was left', ok: report.failures.length === 0, detail: `${report.days} days` },
  ];
}
