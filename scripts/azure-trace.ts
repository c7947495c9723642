/**
 * The main job, on real input where it is: starts the service on an embedded server, imports the Azure LLM
 * trace over 200 users and 2 organizations, shifted to end yesterday, shows what each user spent,
 * compares the rollup with the raw rows, and imports a second time.
 *
 *   npm run azure-trace [-- <data dir>]      the directory stays; without one, a temporary one
 *
 * The trace is read from MICRODOLLAR_TEST_DATA (default ../shared/data); where there is none, a made-up
 * one of the same shape takes its place. Exit status 1 when a sum differs or the second import
 * records anything, 3 when MICRODOLLAR_TEST_DATA names a place without the trace.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addDays } from '../src/days.js';
import { startEmbeddedPostgres } from '../src/db/embedded.js';
import { migrate } from '../src/db/migrate.js';
import { ensureAzureAccounts } from '../src/importing/azureAccounts.js';
import { importFiles } from '../src/importing/importFiles.js';
import type { ImportReport } from '../src/importing/importReport.js';
import { findListPrice } from '../src/importing/listPrice.js';
import { ledgerSink } from '../src/importing/sinks.js';
import { createLedger } from '../src/ledger.js';
import type { Ledger } from '../src/ledgerTypes.js';
import { formatUsd } from '../src/money.js';
import { createServer } from '../src/server/app.js';
import { AZURE_TRACE_REQUESTS, writeAzureTrace } from '../test/support/azureTrace.js';
import { azureTraceFiles, testDataDir } from '../test/support/testData.js';

const AZURE = { users: 200, organizations: 2, listPrice: findListPrice('gpt-4o') };
const SHOWN_USERS = 10;

const PUBLISHED_AT =
  'https://github.com/Azure/AzurePublicDataset/blob/master/AzureLLMInferenceDataset2023.md';

async function main(): Promise<void> {
  const given = process.argv[2];
  const scratch = await mkdtemp(join(tmpdir(), 'microdollar-trace-'));
  const dataDir = given ?? (await mkdtemp(join(tmpdir(), 'microdollar-azure-')));
  try {
    const files = await findTrace(scratch);
    if (files !== null) await run(files, dataDir);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    if (given === undefined) await rm(dataDir, { recursive: true, force: true });
  }
}

/** The real trace, else a made-up one in `scratch`. Null, and said, when one is named and missing. */
async function findTrace(scratch: string): Promise<string[] | null> {
  const real = azureTraceFiles(testDataDir());
  const missing = real.find((path) => !existsSync(path));
  if (missing === undefined) {
    print(`the Azure LLM inference trace of 2023, from ${testDataDir()}`);
    return real;
  }
  const [code, conv] = azureTraceFiles('<directory>');
  const remedy =
    `download its two files from\n  ${PUBLISHED_AT}\nas ${code} and ${conv},\n` +
    'and set MICRODOLLAR_TEST_DATA=<directory>';
  if (process.env.MICRODOLLAR_TEST_DATA) {
    process.stderr.write(`${missing} is missing: ${remedy}, or unset it\n`);
    process.exitCode = 3;
    return null;
  }
  print(
    `a made-up trace of ${AZURE_TRACE_REQUESTS} requests in the shape of Azure's; for the real one`,
  );
  print(`(28,185 requests) ${remedy}`);
  return writeAzureTrace(scratch);
}

async function run(files: readonly string[], dataDir: string): Promise<void> {
  const database = await startEmbeddedPostgres({ dataDir });
  try {
    await migrate(database.url);
    const ledger = await createLedger({ databaseUrl: database.url });
    const server = await createServer({
      ledger,
      adminKey: 'azure-trace',
      host: '127.0.0.1',
      port: 0,
      logLevel: 'warn',
    });
    try {
      print(`serving ${await server.listen()} on PostgreSQL in ${dataDir}`);
      await runMainJob(ledger, files);
    } finally {
      await server.close();
      await ledger.close();
    }
  } finally {
    await database.stop();
  }
}

async function runMainJob(ledger: Ledger, files: readonly string[]): Promise<void> {
  const yesterday = addDays(new Date().toISOString().slice(0, 10), -1);
  await ensureAzureAccounts(ledger.pool, AZURE);
  const runImport = async () => {
    const startedAt = performance.now();
    const report = await importFiles({
      files: files.map((path) => ({ path, format: 'azure-llm' as const })),
      sink: ledgerSink(ledger),
      azure: AZURE,
      shiftTo: yesterday,
    });
    describeImport(report, (performance.now() - startedAt) / 1000);
    return report;
  };

  print(
    `\nfirst import, ${AZURE.users} users, ${AZURE.organizations} organizations, to ${yesterday}`,
  );
  await runImport();
  await showUsers(ledger, yesterday);
  await showOrganizations(ledger);
  await compareWithRaw(ledger);
  print('\nsecond import');
  const second = await runImport();
  if (second.recorded !== 0 || second.rejected !== 0) process.exitCode = 1;
  await compareWithRaw(ledger);
}

function describeImport(report: ImportReport, seconds: number): void {
  print(
    `  ${report.lines} lines: ${report.recorded} recorded ` +
      `(${formatUsd(report.recorded_cost_microdollars)} USD), ${report.duplicates} duplicates, ` +
      `${report.rejected} rejected, ${seconds.toFixed(1)} s`,
  );
  for (const { file, line, reason } of report.rejections)
    print(`  ${file}, line ${line}: ${reason}`);
}

/** Daily totals and three-month average of those who spent most themselves, and the sum of all. */
async function showUsers(ledger: Ledger, day: string): Promise<void> {
  const { rows } = await ledger.pool.query<{ kilo_user_id: string; total: string }>(
    `select d.kilo_user_id, sum(d.total_cost_microdollars)::text as total
     from microdollar_usage_daily_exact as d
     where d.usage_date = $1::date
       and d.organization_id is null
     group by d.kilo_user_id
     order by sum(d.total_cost_microdollars) desc, d.kilo_user_id`,
    [day],
  );
  print(`\npersonal usage   ${day}  average a month of three`);
  for (const row of rows.slice(0, SHOWN_USERS)) {
    const query = { kilo_user_id: row.kilo_user_id };
    const days = await ledger.getDailyUsage({ ...query, from: day, until: day });
    const { averageMonthlyUsageUsd } = await ledger.getAverageMonthlyUsageLast3Months(query);
    const onDay = days[0]?.total_cost_microdollars ?? 0;
    if (String(onDay) !== row.total || averageMonthlyUsageUsd <= 0) process.exitCode = 1;
    print(`${row.kilo_user_id}  ${formatUsd(onDay)} USD  ${averageMonthlyUsageUsd.toFixed(2)} USD`);
  }
  const total = rows.reduce((sum, row) => sum + BigInt(row.total), 0n);
  print(`all ${String(rows.length).padStart(3)} users   ${formatUsd(total)} USD`);
}

async function showOrganizations(ledger: Ledger): Promise<void> {
  const { rows } = await ledger.pool.query<{ name: string; microdollars_used: string }>(
    `select o.name, b.microdollars_used
     from organization_balances as b
     join organizations as o on o.id = b.organization_id
     order by o.name`,
  );
  for (const { name, microdollars_used } of rows) {
    print(`${name}  ${formatUsd(BigInt(microdollars_used))} USD`);
  }
}

/** I2 in one snapshot: totals, and the number of keys that differ. */
async function compareWithRaw(ledger: Ledger): Promise<void> {
  const { rows } = await ledger.pool.query<{ raw: string; rollup: string; differing: string }>(
    `with raw as (
       select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date as usage_date,
         sum(cost) as total
       from microdollar_usage
       group by 1, 2, 3
     ), keys as (
       select coalesce(raw.total, 0) as raw_total,
         coalesce(d.total_cost_microdollars, 0) as rollup_total
       from raw
       full join microdollar_usage_daily_exact as d
         on (d.kilo_user_id, coalesce(d.organization_id::text, ''), d.usage_date)
          = (raw.kilo_user_id, coalesce(raw.organization_id::text, ''), raw.usage_date)
     )
     select coalesce(sum(raw_total), 0)::text as raw,
       coalesce(sum(rollup_total), 0)::text as rollup,
       count(*) filter (where raw_total <> rollup_total)::text as differing
     from keys`,
  );
  const { raw = '0', rollup = '0', differing = '0' } = rows[0] ?? {};
  const difference = BigInt(rollup) - BigInt(raw);
  print(`\nraw sum  ${raw} microdollars`);
  print(`rollup   ${rollup} microdollars`);
  print(`difference ${difference}; keys that differ: ${differing}`);
  if (difference !== 0n || differing !== '0') process.exitCode = 1;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
