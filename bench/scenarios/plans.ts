import pg from 'pg';
import { createLedger } from '../../src/ledger.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import {
  appendPending,
  BATCH_USERS,
  HOT_STATEMENTS,
  type HotStatement,
  PENDING_USER,
  WRITING_USER,
} from '../lib/hotStatements.js';
import { type PlanFigures, PlanReader } from '../lib/plans.js';
import { ORGANIZATION_ID, populate } from '../lib/population.js';
import type { Check, Findings, Scenario } from '../lib/scenario.js';

/** A session settles on a generic plan after five uses, where it may choose. */
const USES_BEFORE = 6;
/** Pending rows of one payer, folded, that an open snapshot keeps. */
const DEAD_ROWS = 10_000;
/** Buffers that a statement may touch more beside them; a scan of them all touches hundreds. */
const DEAD_ROWS_BUFFERS = 100;

export const plans: Scenario = {
  name: 'plans',
  title: 'Plans of the hot statements',
  question:
    'Do the hot statements keep good plans on an empty database, on a full one, without ' +
    'statistics, and beside dead rows that nothing can vacuum?',
  workload: `Each statement runs on a database with ${BATCH_USERS} users and no usage; on one with
millions of usage rows; on that one with its statistics deleted (in a transaction that is rolled
back); and on one where ${DEAD_ROWS.toLocaleString('en-US')} pending rows of the same user, and as
many of the same organization, have been folded while another session keeps a snapshot open, with
the plans that its connections had made before. Connections have the settings they have in the ledger; auto_explain reports the plans that ran, also
inside functions.`,
  baseline:
    'None: no statement may read a table sequentially, nor touch more buffers as history grows or ' +
    'as dead rows pile up.',
  run,
};

const STATES = ['empty', 'full', 'full, no statistics', 'dead rows'] as const;
type State = (typeof STATES)[number];

/** Statistics of the ledger's tables as before the first ANALYZE; only this transaction sees it. */
const WITHOUT_STATISTICS = `
delete from pg_statistic where starelid in (
  select oid from pg_class where relnamespace = 'public'::regnamespace);
update pg_class set reltuples = -1, relpages = 0, relallvisible = 0
where relnamespace = 'public'::regnamespace and relkind in ('r', 'i');`;

async function run(bench: Bench): Promise<Findings> {
  const rows = bench.pick(10_000_000, 200_000);
  const empty = await createWithAccounts(bench);
  const dead = await createWithAccounts(bench);
  const full = await bench.history(rows);
  const figures = new Map<State, PlanFigures[]>([
    ['empty', await explainAll(empty)],
    ['full', await explainAll(full)],
    ['full, no statistics', await explainAll(full, { withoutStatistics: true })],
    ['dead rows', await explainBesideDeadRows(dead)],
  ]);
  await empty.drop();
  await dead.drop();
  return toFindings(figures, rows);
}

async function explainAll(
  database: BenchDatabase,
  { withoutStatistics = false } = {},
): Promise<PlanFigures[]> {
  const figures: PlanFigures[] = [];
  for (const hot of HOT_STATEMENTS) {
    const reader = await PlanReader.connect(database.url, hot.settings);
    figures.push(await explainOn(reader, hot, withoutStatistics));
    await reader.close();
  }
  return figures;
}

/** On connections that prepared their statements when there was nothing: as a server's have. */
async function explainBesideDeadRows(database: BenchDatabase): Promise<PlanFigures[]> {
  const readers: PlanReader[] = [];
  for (const hot of HOT_STATEMENTS) {
    const reader = await PlanReader.connect(database.url, hot.settings);
    for (let use = 0; use < USES_BEFORE; use++) await explainOn(reader, hot, false);
    readers.push(reader);
  }
  const holder = await leaveDeadRows(database);
  const figures: PlanFigures[] = [];
  for (const [index, hot] of HOT_STATEMENTS.entries()) {
    const reader = readers[index] as PlanReader;
    figures.push(await explainOn(reader, hot, false));
    await reader.close();
  }
  await holder.end();
  return figures;
}

async function createWithAccounts(bench: Bench): Promise<BenchDatabase> {
  const database = await bench.createDatabase();
  await populate(database.admin, {
    users: BATCH_USERS,
    organization: true,
    draw: () => () => 0,
    activeToday: false,
  });
  return database;
}

/** Appended and folded under a snapshot that the returned session keeps open. */
async function leaveDeadRows(database: BenchDatabase): Promise<pg.Client> {
  const holder = new pg.Client({ connectionString: database.url });
  holder.on('error', () => {});
  await holder.connect();
  await holder.query('begin isolation level repeatable read');
  await holder.query('select count(*) from kilocode_users');
  const payers: [user: string, organization: string | null][] = [
    [PENDING_USER, null],
    [WRITING_USER, null],
    [WRITING_USER, ORGANIZATION_ID],
  ];
  for (const payer of payers) {
    await database.admin.query(
      `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, position)
      select gen_random_uuid(), $1, $2, 1, microdollar_position()
      from generate_series(1, $3::integer)`,
      [...payer, DEAD_ROWS],
    );
  }
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  try {
    await ledger.fold();
  } finally {
    await ledger.close();
  }
  return holder;
}

async function explainOn(
  reader: PlanReader,
  { statement }: HotStatement,
  withoutStatistics: boolean,
): Promise<PlanFigures> {
  await reader.run({ text: 'begin' });
  if (withoutStatistics) await reader.run({ text: WITHOUT_STATISTICS });
  await reader.run(appendPending());
  const figures = await reader.explain(statement());
  await reader.run({ text: 'rollback' });
  return figures;
}

function toFindings(found: ReadonlyMap<State, PlanFigures[]>, rows: number): Findings {
  const cell = (state: State, index: number) => found.get(state)?.[index] as PlanFigures;
  return {
    tables: [
      {
        title: `Buffers touched; full = ${rows.toLocaleString('en-US')} usage rows`,
        columns: ['statement', ...STATES],
        rows: HOT_STATEMENTS.map(({ name }, index) => [
          name,
          ...STATES.map((state) => cell(state, index).buffers),
        ]),
      },
      {
        title: 'Time under auto_explain (ms)',
        columns: ['statement', ...STATES],
        rows: HOT_STATEMENTS.map(({ name }, index) => [
          name,
          ...STATES.map((state) => Number(cell(state, index).milliseconds.toFixed(2))),
        ]),
      },
    ],
    checks: [
      ...STATES.map((state) => checkScans(state, (index) => cell(state, index))),
      checkDeadRows(cell),
    ],
  };
}

function checkScans(state: State, cell: (index: number) => PlanFigures): Check {
  const scans = HOT_STATEMENTS.flatMap(({ name }, index) =>
    cell(index).sequentialScans.map((table) => `${name}: ${table}`),
  );
  return {
    name: `no sequential scan, ${state}`,
    ok: scans.length === 0,
    detail: scans.length === 0 ? `${HOT_STATEMENTS.length} statements` : scans.join('; '),
  };
}

function checkDeadRows(cell: (state: State, index: number) => PlanFigures): Check {
  const slow = HOT_STATEMENTS.flatMap(({ name }, index) => {
    const more = cell('dead rows', index).buffers - cell('empty', index).buffers;
    return more > DEAD_ROWS_BUFFERS ? [`${name}: ${more} buffers more`] : [];
  });
  return {
    name: 'dead rows are skipped, not scanned',
    ok: slow.length === 0,
    detail: slow.length === 0 ? `${HOT_STATEMENTS.length} statements` : slow.join('; '),
  };
}
