import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { CONNECTION_USES } from '../../src/connections.js';
import { readBalancesStatement, settleStatement } from '../../src/counter/settle.sql.js';
import { findPackage } from '../../src/db/embedded/binaries.js';
import { WRITE_SETTINGS } from '../../src/db/pool.js';
import type { Statement } from '../../src/db/statement.js';
import { appendBatchStatement } from '../../src/record/appendBatch.sql.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { type ValidEvent, validateEvent } from '../../src/record/event.js';
import { recordInPlaceStatement } from '../../src/record/inPlace.sql.js';
import { GIVEN_COLUMN_LIST, GIVEN_PARAMETERS, usageValues } from '../../src/record/usageColumns.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { startEmbeddedPostgres } from '../../src/testing.js';
import { userId } from '../lib/population.js';
import type { Findings, Scenario } from '../lib/scenario.js';

/** Executions of a statement: the difference of two runs is what those between them cost. */
const FEW = 20;
const MANY = 70;
/** Few, so that their pages are warm and logged whole before the count begins. */
const USERS = 64;
const BATCH = 32;

export const instructions: Scenario = {
  name: 'instructions',
  title: 'Instructions per statement',
  question: 'What does a statement cost the server, whatever else the machine does?',
  workload: `Thousand user-space instructions of one backend (callgrind on \`postgres --single\`),
prepared, generic plan, ${MANY - FEW} executions by difference, ${USERS} users, without metadata rows;
no fsync, sockets or context switches in it. Needs valgrind.`,
  baseline: 'A plain insert of the same row, and the seed statement.',
  run,
};

interface Variant {
  name: string;
  /** Thousand instructions. */
  atMost: number | null;
  settings?: readonly string[];
  statement: (execution: number) => Statement;
  /** Executed before each, and taken off. */
  after?: string;
}

const event = (execution: number): ValidEvent =>
  validateEvent(
    {
      kilo_user_id: userId(execution % USERS),
      cost: 1_234,
      provider: 'openrouter',
      model: 'anthropic/claude-opus-5',
      requested_model: 'anthropic/claude-opus-5',
      inference_provider: 'primary',
      input_tokens: 900,
      output_tokens: 120,
    },
    { nulBytesRemoved: 0 },
  );

const APPEND_BATCH = `append a batch of ${BATCH}, payers known`;

const INSERT = `insert into microdollar_usage (${GIVEN_COLUMN_LIST}) values (${GIVEN_PARAMETERS})`;

const VARIANTS: readonly Variant[] = [
  {
    name: 'parameters only',
    atMost: null,
    statement: (n) => ({
      name: 'parameters',
      text: `select 1 where num_nulls(${GIVEN_PARAMETERS}) < 0`,
      values: usageValues(event(n)),
    }),
  },
  {
    name: 'raw insert',
    atMost: null,
    statement: (n) => ({ name: 'raw', text: INSERT, values: usageValues(event(n)) }),
  },
  {
    name: "the seed's statement",
    atMost: null,
    statement: (n) => ({
      name: 'seed',
      text: `with usage_written as (${INSERT}), daily_written as (
insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
select $2::text, (now() at time zone 'UTC')::date, $9::bigint where $9::bigint <> 0
on conflict (kilo_user_id, usage_date) where organization_id is null do update set
total_cost_microdollars = microdollar_usage_daily.total_cost_microdollars
+ excluded.total_cost_microdollars, updated_at = now())
update kilocode_users as u set microdollars_used = u.microdollars_used + $9::bigint
where u.id = $2::text returning u.microdollars_used`,
      values: usageValues(event(n)),
    }),
  },
  {
    name: 'append, payer known',
    atMost: 150,
    statement: (n) => appendUsageStatement(event(n), { metadata: null, isKnown: true }),
  },
  {
    name: 'append, payer not known',
    atMost: null,
    statement: (n) => appendUsageStatement(event(n), { metadata: null, isKnown: false }),
  },
  {
    name: 'in place',
    atMost: 560,
    statement: (n) => recordInPlaceStatement(event(n), null),
  },
  {
    name: APPEND_BATCH,
    atMost: null,
    statement: (n) => {
      const events = Array.from({ length: BATCH }, (_, index) => event(n * BATCH + index));
      return appendBatchStatement(
        events,
        events.map(() => null),
        true,
      );
    },
  },
  {
    name: 'read the balances of 32 users',
    atMost: null,
    settings: CONNECTION_USES.settle.settings,
    statement: (n) => readBalancesStatement(USER_SCOPE, thirtyTwo(n)),
  },
  {
    name: 'settle 32 users with a row each',
    after: APPEND_BATCH,
    atMost: null,
    settings: CONNECTION_USES.settle.settings,
    statement: (n) =>
      settleStatement(
        USER_SCOPE,
        thirtyTwo(n),
        thirtyTwo(n).map(() => true),
        { youngXids: 64, rowsPerPayer: null },
      ),
  },
];

const thirtyTwo = (execution: number): string[] =>
  Array.from({ length: 32 }, (_, index) => userId((execution * 32 + index) % USERS));

async function run(): Promise<Findings> {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-instructions-'));
  // The server's account must reach its cluster; nothing else is in there.
  chmodSync(dataDir, 0o711);
  try {
    const cluster = await prepare(dataDir);
    const figures: { variant: Variant; kilo: number }[] = [];
    for (const variant of VARIANTS) {
      const before = figures.find((figure) => figure.variant.name === variant.after);
      const between = count(cluster, variant, MANY) - count(cluster, variant, FEW);
      const kilo = between / (MANY - FEW) / 1_000;
      figures.push({ variant, kilo: before ? kilo - before.kilo + (figures[0]?.kilo ?? 0) : kilo });
    }
    const base = figures[0]?.kilo ?? 0;
    return {
      tables: [
        {
          title: 'Thousand instructions a statement, over its parameters alone',
          columns: ['statement', 'instructions', 'target'],
          rows: figures.map(({ variant, kilo }) => [
            variant.name,
            Math.round(kilo - base),
            variant.atMost === null ? '' : `at most ${variant.atMost}`,
          ]),
        },
      ],
      checks: figures
        .filter(({ variant }) => variant.atMost !== null)
        .map(({ variant, kilo }) => ({
          name: `${variant.name}: at most ${variant.atMost} thousand`,
          ok: kilo - base <= (variant.atMost ?? 0),
          detail: `${Math.round(kilo - base)} thousand`,
        })),
    };
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** A cluster with users, their rows of today, and for every user a row to settle. */
async function prepare(dataDir: string): Promise<string> {
  const server = await startEmbeddedPostgres({ dataDir, database: 'bench' });
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(
    `insert into kilocode_users (id)
    select 'user-' || lpad(i::text, 7, '0') from generate_series(0, $1 - 1) as i`,
    [USERS],
  );
  await client.query(
    `insert into microdollar_usage_daily (kilo_user_id, usage_date)
    select id, (now() at time zone 'UTC')::date from kilocode_users`,
  );
  for (let round = 0; round < 8; round++) {
    await client.query(
      `insert into microdollar_usage (id, kilo_user_id, cost, position)
      select gen_random_uuid(), id, 5, case when $1 = 7 then microdollar_position() end
      from kilocode_users`,
      [round],
    );
  }
  await client.query('vacuum analyze');
  await client.end();
  await server.stop();
  return path.join(dataDir, 'postgres', 'cluster');
}

/** Instructions of one backend that executes the statement so often. */
function count(cluster: string, variant: Variant, executions: number): number {
  const settings = variant.settings ?? WRITE_SETTINGS;
  const first = variant.statement(0);
  const before = VARIANTS.find(({ name }) => name === variant.after);
  const lines = [
    ...settings.map((setting) => `set ${setting.replace('=', ' = ')}`),
    `prepare measured as ${first.text}`,
    ...(before ? [`prepare before as ${before.statement(0).text}`] : []),
    ...Array.from({ length: executions }, (_, n) => [
      ...(before ? [execute('before', before.statement(n))] : []),
      execute('measured', variant.statement(n)),
    ]).flat(),
  ];
  const input = lines.map((line) => `${line.replace(/\s*\n\s*/g, ' ')}\n`).join('');
  const { uid, gid } = statSync(cluster);
  const options = ['fsync=off', 'jit=off', 'autovacuum=off'].flatMap((each) => ['-c', each]);
  const ran = spawnSync(
    'valgrind',
    [
      '--tool=callgrind',
      '--callgrind-out-file=/dev/null',
      path.join(findPackage().dir, 'native', 'bin', 'postgres'),
      '--single',
      '-D',
      cluster,
      ...options,
      'bench',
    ],
    { input, encoding: 'utf8', uid, gid, maxBuffer: 1 << 28, env: { ...process.env, HOME: '/' } },
  );
  const refused = /(ERROR|FATAL|PANIC|postgres):.*/.exec(ran.stderr ?? '');
  const collected = /Collected : (\d+)/.exec(ran.stderr ?? '');
  if (refused || !collected) {
    throw new Error(`${variant.name}: ${refused?.[0] ?? ran.error?.message ?? ran.stderr}`);
  }
  return Number(collected[1]);
}

function execute(name: string, { values }: Statement): string {
  if (values.length === 0) return `execute ${name}`;
  return `execute ${name} (${values.map(literal).join(', ')})`;
}

function literal(value: unknown): string {
  if (value === null) return 'null';
  return typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value);
}
