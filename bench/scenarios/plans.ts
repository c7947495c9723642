import {
  drainStatement,
  findPendingPayersStatement,
  openCountersStatement,
} from '../../src/counter/fold.sql.js';
import { WRITE_SETTINGS } from '../../src/db/pool.js';
import type { Statement } from '../../src/db/statement.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { type ValidEvent, validateEvent } from '../../src/record/event.js';
import { recordBatchStatement } from '../../src/record/recordBatch.sql.js';
import { recordUsageStatement } from '../../src/record/recordUsage.sql.js';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { type PlanFigures, PlanReader } from '../lib/plans.js';
import { eventSource, ORGANIZATION_ID, populate, userId } from '../lib/population.js';
import type { Check, Findings, Scenario } from '../lib/scenario.js';

const BATCH = 100;
/** Users that the statements are about; those of the history are more. */
const USERS = 100;
const READ_SETTINGS = ['jit=off'];
const FOLD_SETTINGS = ['enable_seqscan=off', 'enable_bitmapscan=off', 'jit=off'];

export const plans: Scenario = {
  name: 'plans',
  title: 'Plans of the hot statements',
  question:
    'Do the hot statements keep good plans on an empty database, on a full one, and without statistics?',
  workload: `Each statement runs on a database with ${USERS} users and no usage, on one with millions of
usage rows, and on that one with its statistics deleted (in a transaction that is rolled back), with
the settings its connection has in the ledger; auto_explain reports the plans that ran, also inside
functions.`,
  baseline:
    'None: no statement may read a table sequentially, and none may touch more buffers as history grows.',
  run,
};

interface Case {
  name: string;
  settings: readonly string[];
  statement(): Statement;
}

const source = eventSource(
  { users: USERS, draw: (random) => () => Math.floor(random() * USERS) },
  7,
);

/** Without lookups by value, which the ledger resolves in a statement of its own. */
function nextEvent(organizationId: string | null = null): ValidEvent {
  const { metadata, ...core } = source();
  return validateEvent({ ...core, organization_id: organizationId }, { nulBytesRemoved: 0 });
}

function metadataOf(event: ValidEvent): string {
  return JSON.stringify({
    id: event.id,
    kilo_user_id: event.kilo_user_id,
    created_at: 'now',
    message_id: `gen-${event.id}`,
    latency: 812.5,
  });
}

function recordOne(organizationId: string | null): Statement {
  const event = nextEvent(organizationId);
  return recordUsageStatement(event, metadataOf(event), true);
}

function appendOne(organizationId: string | null): Statement {
  const event = nextEvent(organizationId);
  return appendUsageStatement(event, metadataOf(event));
}

function recordMany(): Statement {
  const events = Array.from({ length: BATCH }, () => nextEvent());
  return recordBatchStatement(events, events.map(metadataOf), true);
}

const write = (name: string, statement: () => Statement): Case => ({
  name,
  settings: WRITE_SETTINGS,
  statement,
});
const fold = (name: string, statement: () => Statement): Case => ({
  name,
  settings: FOLD_SETTINGS,
  statement,
});
const read = (name: string, statement: () => Statement): Case => ({
  name,
  settings: READ_SETTINGS,
  statement,
});

const DAYS = { from: '2000-01-01', until: '2100-01-01' };

const CASES: readonly Case[] = [
  write('record one, personal', () => recordOne(null)),
  write('record one, organization', () => recordOne(ORGANIZATION_ID)),
  write('append one, personal', () => appendOne(null)),
  write('append one, organization', () => appendOne(ORGANIZATION_ID)),
  write(`record a batch of ${BATCH}`, recordMany),
  fold('fold: find payers', () => findPendingPayersStatement('0', 2_000, 0)),
  fold('fold: create missing rows', () =>
    openCountersStatement([userId(0)], [ORGANIZATION_ID], 100),
  ),
  fold('fold: drain', () => drainStatement([userId(0)], [ORGANIZATION_ID], 4_000)),
  read('read three months', () => threeMonthTotalStatement('rollup', userId(1), null)),
  read('read daily totals', () =>
    dailyUsageStatement('rollup', { kiloUserId: userId(1), organizationId: null, ...DAYS }),
  ),
];

/** Statistics of the ledger's tables as before the first ANALYZE; only this transaction sees it. */
const WITHOUT_STATISTICS = `
delete from pg_statistic where starelid in (
  select oid from pg_class where relnamespace = 'public'::regnamespace);
update pg_class set reltuples = -1, relpages = 0, relallvisible = 0
where relnamespace = 'public'::regnamespace and relkind in ('r', 'i');`;

type State = 'empty' | 'full' | 'full, no statistics';

async function run(bench: Bench): Promise<Findings> {
  const rows = bench.pick(10_000_000, 200_000);
  const empty = await bench.createDatabase();
  await populate(empty.admin, {
    users: USERS,
    organization: true,
    draw: () => () => 0,
    activeToday: false,
  });
  const full = await bench.history(rows);
  try {
    const states: [State, BenchDatabase][] = [
      ['empty', empty],
      ['full', full],
      ['full, no statistics', full],
    ];
    const found = new Map<State, PlanFigures[]>();
    for (const [state, database] of states) {
      const figures: PlanFigures[] = [];
      for (const each of CASES) figures.push(await explainCase(each, state, database));
      found.set(state, figures);
    }
    return toFindings(found, rows);
  } finally {
    await empty.drop();
  }
}

async function explainCase(
  { settings, statement }: Case,
  state: State,
  database: BenchDatabase,
): Promise<PlanFigures> {
  const reader = await PlanReader.connect(database.url, settings);
  try {
    await reader.run({ text: 'begin' });
    if (state === 'full, no statistics') await reader.run({ text: WITHOUT_STATISTICS });
    // Something to fold, on a database where nobody writes.
    const pending = nextEvent();
    await reader.run(appendUsageStatement({ ...pending, kilo_user_id: userId(0) }, null));
    const figures = await reader.explain(statement());
    await reader.run({ text: 'rollback' });
    return figures;
  } finally {
    await reader.close();
  }
}

function toFindings(found: ReadonlyMap<State, PlanFigures[]>, rows: number): Findings {
  const states = [...found.keys()];
  const cell = (state: State, index: number) => found.get(state)?.[index] as PlanFigures;
  const checks: Check[] = states.map((state) => {
    const scans = CASES.flatMap(({ name }, index) =>
      cell(state, index).sequentialScans.map((table) => `${name}: ${table}`),
    );
    return {
      name: `no sequential scan, ${state}`,
      ok: scans.length === 0,
      detail: scans.length === 0 ? `${CASES.length} statements` : scans.join('; '),
    };
  });
  return {
    tables: [
      {
        title: `Buffers touched, and time under auto_explain (ms); full = ${rows.toLocaleString('en-US')} usage rows`,
        columns: ['statement', ...states, ...states.map((state) => `${state}, ms`)],
        rows: CASES.map(({ name }, index) => [
          name,
          ...states.map((state) => cell(state, index).buffers),
          ...states.map((state) => Number(cell(state, index).milliseconds.toFixed(2))),
        ]),
      },
    ],
    checks,
  };
}
