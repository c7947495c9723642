import pg from 'pg';
import { checkApproach, type OpenApproach } from '../lib/approach.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { closeApproaches, openApproaches, perSecond, runSlice } from '../lib/compare.js';
import { groupCommit, oneEvent } from '../lib/ours.js';
import { eventSource, type Population } from '../lib/population.js';
import type { Check, Comparison, Findings, Scenario, Table } from '../lib/scenario.js';
import { median, round } from '../lib/statistics.js';

const HOT_USER: Population = { users: 1, draw: () => () => 0 };
const SLICE_MS = 2_000;
/** Not the log, but larger at the end by more than this would be growth that a minute shows. */
const GROWTH_BYTES = 1_000_000;

export const steady: Scenario = {
  name: 'steady',
  title: 'A session idle in a transaction, under a hot user',
  question:
    'A dump keeps a snapshot open, a session forgets to commit: nothing can be vacuumed, no later ' +
    'transaction id is known to have ended. What becomes of the writes?',
  workload:
    'One hot user. For each kind of session: a third of a minute without it, a minute with it held ' +
    'throughout, a third without it again, in slices of two seconds.',
  baseline: 'The same without the session, just before and just after.',
  run,
};

interface Holder {
  label: string;
  /** In a database of its own, or in the one that is written to. */
  elsewhere: boolean;
  statements: readonly string[];
}

const HOLDERS: readonly Holder[] = [
  {
    label: 'a snapshot held open',
    elsewhere: false,
    statements: ['begin isolation level repeatable read', 'select count(*) from microdollar_usage'],
  },
  {
    label: 'idle with a transaction id, same database',
    elsewhere: false,
    statements: ['begin', 'select pg_current_xact_id()'],
  },
  {
    label: 'idle with a transaction id, another database',
    elsewhere: true,
    statements: ['begin', 'select pg_current_xact_id()'],
  },
];

interface Held {
  approach: string;
  holder: string;
  without: number[];
  held: number[];
  grownBytes: Record<string, number>;
}

async function run(bench: Bench): Promise<Findings> {
  const definitions = [oneEvent, groupCommit];
  const databases = await bench.createDatabases(HOT_USER, definitions.length);
  const opened = await openApproaches(databases, definitions);
  const elsewhere = await bench.createDatabase();
  const measured: Held[] = [];
  try {
    for (const [index, open] of opened.entries()) {
      const database = databases[index] as BenchDatabase;
      for (const holder of HOLDERS) {
        const url = holder.elsewhere ? elsewhere.url : database.url;
        measured.push(await measure(bench, open, holder, url));
      }
    }
    const checks: Check[] = [...measured.map(toGrowthCheck)];
    for (const open of opened) checks.push(await checkApproach(open));
    return { comparisons: measured.map(toComparison), tables: [toTable(measured)], checks };
  } finally {
    await closeApproaches(bench, opened, databases);
    await elsewhere.drop();
  }
}

async function measure(
  bench: Bench,
  open: OpenApproach,
  holder: Holder,
  url: string,
): Promise<Held> {
  const nextEvent = eventSource(HOT_USER, 7);
  const slices = async (seconds: number) => {
    const rates: number[] = [];
    for (let count = Math.max(1, Math.round((seconds * 1_000) / SLICE_MS)); count > 0; count--) {
      const slice = await runSlice(open, nextEvent, SLICE_MS);
      rates.push(round(perSecond(slice.events, slice.elapsedMs)));
    }
    return rates;
  };
  const seconds = bench.options.seconds ?? bench.pick(60, 2);
  await slices(2);
  const before = await slices(seconds / 3);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  for (const statement of holder.statements) await client.query(statement);
  const sizes = await readSizes(open.admin);
  const held = await slices(seconds);
  const grown = await readSizes(open.admin);
  await client.query('rollback');
  await client.end();
  const without = [...before, ...(await slices(seconds / 3))];
  const approach = open.definition.label;
  bench.log(`  ${approach}, ${holder.label}: ${median(held)} of ${median(without)} events/s`);
  const grownBytes = Object.fromEntries(
    Object.entries(grown).map(([table, bytes]) => [table, bytes - (sizes[table] ?? 0)]),
  );
  return { approach, holder: holder.label, without, held, grownBytes };
}

/** Bytes of every table of the ledger with its indexes. */
async function readSizes(admin: pg.Pool): Promise<Record<string, number>> {
  const { rows } = await admin.query<{ name: string; bytes: string }>(
    `select relname as name, pg_total_relation_size(oid) as bytes from pg_class
    where relkind = 'r' and relnamespace = 'public'::regnamespace`,
  );
  return Object.fromEntries(rows.map(({ name, bytes }) => [name, Number(bytes)]));
}

/** With the session, and its last third alone, against the median without. */
function toComparison({ approach, holder, without, held }: Held): Comparison {
  const usual = median(without);
  return {
    subject: `${approach}, ${holder}`,
    baseline: 'without it',
    measure: 'events/s, last third of the minute',
    ratios: held.slice(Math.floor((held.length * 2) / 3)).map((rate) => round(rate / usual)),
    target: { atLeast: 0.85 },
  };
}

const LOG = ['microdollar_usage', 'microdollar_usage_metadata'];

function toGrowthCheck({ approach, holder, grownBytes }: Held): Check {
  const grown = Object.entries(grownBytes).filter(
    ([table, bytes]) => !LOG.includes(table) && bytes > GROWTH_BYTES,
  );
  return {
    name: `${approach}, ${holder}: no table grows but the log`,
    ok: grown.length === 0,
    detail: grown.map(([table, bytes]) => `${table} by ${bytes} bytes`).join(', ') || 'none',
  };
}

function toTable(measured: readonly Held[]): Table {
  const others = ({ grownBytes }: Held) =>
    Object.entries(grownBytes)
      .filter(([table]) => !LOG.includes(table))
      .reduce((sum, [, bytes]) => sum + bytes, 0);
  return {
    title: 'Events a second (median of slices), and growth of all tables but the log (kB)',
    columns: ['approach', 'session', 'without', 'with', 'first slice', 'last slice', 'growth'],
    rows: measured.map((row) => [
      row.approach,
      row.holder,
      Math.round(median(row.without)),
      Math.round(median(row.held)),
      Math.round(row.held[0] ?? 0),
      Math.round(row.held.at(-1) ?? 0),
      Math.round(others(row) / 1_000),
    ]),
  };
}
