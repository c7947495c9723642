/**
 * How long the jobs of docs/operations.md take on this machine, one after the other on an embedded
 * server of their own: adoption of raw rows over 100 days, backfill, verification, a dump and its
 * restore, and an archive of half the days, or of as many of the oldest as are asked for. Prints a
 * line for each: seconds, rows a second, bytes, and the processor's time a row, of this process and of
 * the server's, which others on the machine do not change.
 *
 *   npx tsx scripts/measure-jobs.ts --rows 1000000
 *   npx tsx scripts/measure-jobs.ts --rows 10000000 --dir /mnt/disk --only archive --archive-days 20
 *
 * Of a large table a part tells as much: with `--part-days 5` only the oldest five days are built, verified
 * and archived, beside all the others.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { dumpLedger } from '../src/db/dump/dump.js';
import { restoreLedger } from '../src/db/dump/restore.js';
import { startEmbeddedPostgres } from '../src/db/embedded.js';
import { migrate } from '../src/db/migrate.js';
import { archiveUsage } from '../src/rollup/archive/archive.js';
import { runBackfill } from '../src/rollup/backfill.js';
import { buildDimensions } from '../src/rollup/dimensions/build.js';
import { verifyRollup } from '../src/rollup/verify.js';
import { DIMENSION_ROLLUPS } from '../src/schema/dimensionRollups.js';
import { DAILY_ROLLUP } from '../src/schema/rollups.js';
import { SEED_SCHEMA } from '../test/support/seedSchema.sql.js';

const ROWS_PER_USER = 200;
const FILLED_AT_ONCE = 500_000;

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    days: { type: 'string', default: '100' },
    dir: { type: 'string', default: tmpdir() },
    only: { type: 'string' },
    'archive-days': { type: 'string' },
    'part-days': { type: 'string' },
  },
});
const rows = Number(values.rows);
const DAYS = Number(values.days);
const PART_DAYS = values['part-days'] === undefined ? null : Number(values['part-days']);
const ARCHIVED_DAYS = PART_DAYS ?? Number(values['archive-days'] ?? DAYS / 2);
/** Of the part, and a day at its end of which some rows are younger. */
const range = PART_DAYS === null ? {} : { until: dayBefore(DAYS - PART_DAYS) };
const builtRows = PART_DAYS === null ? rows : (rows * PART_DAYS) / DAYS;

function dayBefore(days: number): string {
  return new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);
}
const home = mkdtempSync(path.join(values.dir, 'microdollar-measure-'));
const server = await startEmbeddedPostgres({ dataDir: path.join(home, 'data') });
const client = new pg.Client({ connectionString: server.url });
await client.connect();

const TICKS_A_SECOND = 100;

/** Of the server and all that it started, also of those that have ended; seconds. Linux alone. */
function serverCpuSeconds(): number {
  if (process.platform !== 'linux') return Number.NaN;
  const statOf = (pid: string) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    } catch {
      return null;
    }
  };
  const ticks = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      const stat = statOf(pid);
      if (stat === null) return 0;
      const [own, ofChildren] = [11, 13].map((at) => Number(stat[at]) + Number(stat[at + 1]));
      if (pid === String(server.pid)) return (own ?? 0) + (ofChildren ?? 0);
      return stat[1] === String(server.pid) ? (own ?? 0) : 0;
    });
  return ticks.reduce((sum, each) => sum + each, 0) / TICKS_A_SECOND;
}

async function measure(name: string, count: number, work: () => Promise<unknown>): Promise<void> {
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const serverBefore = serverCpuSeconds();
  await work();
  const seconds = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const microsOfServer = (1e6 * (serverCpuSeconds() - serverBefore)) / count;
  const { rows: sizes } = await client.query<{ bytes: string }>(
    'select pg_database_size(current_database()) as bytes',
  );
  const bytesPerRow = Math.round(Number(sizes[0]?.bytes) / rows);
  console.log(
    `${name.padEnd(28)} ${seconds.toFixed(1).padStart(8)} s ` +
      `${Math.round(count / seconds)
        .toLocaleString('en-US')
        .padStart(10)} rows/s ` +
      `${String(bytesPerRow).padStart(6)} bytes/row in the database ` +
      `${((user + system) / count).toFixed(1).padStart(7)} + ${microsOfServer.toFixed(1).padStart(6)} us/row`,
  );
}

/**
 * As a program before the ledger left them: raw rows, each with metadata, no totals. Ids rise, as those of
 * version 7 do; indexes are built after.
 */
async function fill(): Promise<void> {
  const index = /^create index [^;]*;$/gm;
  await client.query(SEED_SCHEMA.replaceAll(index, ''));
  await client.query("set synchronous_commit = off; set maintenance_work_mem = '512MB'");
  await client.query(
    `insert into kilocode_users (id, google_user_email)
    select 'user-' || n, n || '@example.com' from generate_series(1, $1::integer / ${ROWS_PER_USER} + 1) as n`,
    [rows],
  );
  await client.query(`insert into organizations (name) values ('one')`);
  // In slices: of one statement the server keeps a note for each row, to check its keys at the end.
  for (let from = 1; from <= rows; from += FILLED_AT_ONCE) await fillRows(from);
  for (const [statement] of SEED_SCHEMA.matchAll(index)) await client.query(statement);
  await client.query('reset synchronous_commit; reset maintenance_work_mem');
  await client.query('vacuum analyze');
}

async function fillRows(from: number): Promise<void> {
  const until = Math.min(rows, from + FILLED_AT_ONCE - 1);
  await client.query(
    `with filled as (
    insert into microdollar_usage (id, kilo_user_id, organization_id, cost, input_tokens,
      output_tokens, cache_write_tokens, cache_hit_tokens, created_at, provider, model)
    select lpad(to_hex(n), 32, '0')::uuid, 'user-' || 1 + n % ($1::integer / ${ROWS_PER_USER}),
      case when n % 10 = 0 then (select id from organizations) end,
      n % 9973, 900, 200, 0, 100,
      now() - interval '2 hours' - interval '${DAYS} days' * (n / $1::float8), 'openai', 'model-' || n % 7
    from generate_series($2::integer, $3::integer) as n
    returning id, created_at
    )
    insert into microdollar_usage_metadata (id, created_at, message_id, status_code, latency)
    select id, created_at, 'message', 200, 1 from filled`,
    [rows, from, until],
  );
}

const { url } = server;
const steps: [string, number, () => Promise<unknown>][] = [
  ['fill', rows, fill],
  ['adopt', rows, () => migrate(url)],
  ['backfill, daily', builtRows, () => runBackfill({ url, rollup: DAILY_ROLLUP, ...range })],
  ...DIMENSION_ROLLUPS.map((rollup): [string, number, () => Promise<unknown>] => [
    `backfill, ${rollup.name.replace('microdollar_usage_', '')}`.slice(0, 28),
    builtRows,
    () => buildDimensions({ url, rollup, ...range }),
  ]),
  ['verify, daily', builtRows, () => verifyRollup({ url, rollup: DAILY_ROLLUP, ...range })],
  ['dump', rows, () => dumpLedger(client, { directory: path.join(home, 'dump') })],
  ['restore', rows, restore],
  ['archive', (rows * ARCHIVED_DAYS) / DAYS, archive],
];

async function restore(): Promise<void> {
  await client.query('create database restored');
  const other = new URL(url);
  other.pathname = '/restored';
  await restoreLedger(other.href, { directory: path.join(home, 'dump') });
}

async function archive(): Promise<void> {
  const until = dayBefore(DAYS - ARCHIVED_DAYS);
  await archiveUsage({ url, until, directory: path.join(home, 'archive') });
}

try {
  const skipped = values.only === 'archive' ? ['verify, daily', 'dump', 'restore'] : [];
  for (const [name, count, work] of steps) {
    if (name === 'archive' && skipped.length > 0) {
      await verifyRollup({ url, rollup: DAILY_ROLLUP });
    }
    if (!skipped.includes(name)) await measure(name, count, work);
  }
} finally {
  await client.end();
  await server.stop();
  rmSync(home, { recursive: true, force: true, maxRetries: 3 });
}
