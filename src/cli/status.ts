import type { Pool } from 'pg';
import { applicationSuffix, schemaOf } from '../db/ledgerSchema.js';
import {
  countsForeignRows,
  findForeignKeyWarnings,
  isKnownCluster,
  UNKNOWN_CLUSTER,
} from '../db/migrate.js';
import { queryOnPool } from '../db/query.js';
import { toJsonInteger } from '../money.js';
import { type OverviewRow, overviewStatement } from '../rollup/overview.sql.js';
import { type ReadModeStatus, readReadMode } from '../rollup/readMode.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { alignTable, formatAmount, formatCount, formatInstant, formatInstantOr } from './output.js';
import { findServers } from './runtimeFile.js';
import {
  COUNTED_EVENTS,
  COUNTED_ROWS,
  type CountedTable,
  estimateStatement,
  type StatusRow,
  statusStatement,
} from './status.sql.js';
import { describePartitions, readPartitions } from './statusPartitions.js';

export const registerStatus: Register = (command, run) => {
  command.action(() => run(showStatus));
};

/** A size: exact while it is small, else from the planner's statistics. */
interface Size {
  rows: number;
  isEstimate: boolean;
}

async function showStatus(context: CommandContext): Promise<CommandStatus> {
  return withMigratedDatabase(context, async (database) => {
    const pool = database.pool();
    const { rows } = await pool.query<StatusRow>(
      statusStatement(applicationSuffix(schemaOf(database.url))),
    );
    const row = rows[0];
    if (row === undefined) throw new Error('the status statement returned no row');
    const pending = await (await database.ledger()).getPendingStatus();
    const { environment, shard } = context;
    const servedUrl = shard === null ? environment.databaseUrl : shard.homeUrl;
    const serverUrls = await findServers({ ...environment, databaseUrl: servedUrl });
    const connections = Number(row.ledger_connections);
    const mode = await readReadMode(queryOnPool(pool, false));
    const rollups = (await pool.query<OverviewRow>(overviewStatement())).rows;
    const isKnown = await isKnownCluster(pool);
    const partitions = await readPartitions(pool);
    const warnings = [
      ...partitions.warnings,
      ...(isKnown ? [] : [UNKNOWN_CLUSTER]),
      ...(await findForeignKeyWarnings(pool)),
    ];
    const eventsToday = Number(row.events_today);
    const document = {
      database: database.embeddedDir === null ? describeUrl(context) : 'embedded',
      data_dir: database.embeddedDir,
      postgresql: row.server_version,
      server_url: serverUrls[0] ?? null,
      server_urls: serverUrls,
      ledger_connections: connections,
      read_mode: mode.stored,
      effective_read_mode: mode.effective,
      read_mode_reason: mode.reason,
      rollups: rollups.map(toRollupDocument),
      archive_horizon: row.archive_horizon,
      pending_rows: pending.depth,
      pending_oldest_age_ms: pending.oldestAgeMs,
      is_known_cluster: isKnown,
      counts_foreign_rows: await countsForeignRows(pool),
      users: await sizeOf(pool, 'kilocode_users', row.users_counted),
      organizations: await sizeOf(pool, 'organizations', row.organizations_counted),
      usage: await sizeOf(pool, 'microdollar_usage', row.usage_counted),
      usage_partitions: partitions.document,
      usage_daily: await sizeOf(pool, 'microdollar_usage_daily', row.daily_counted),
      active_keys: Number(row.keys_active),
      today: row.today,
      events_today: { rows: eventsToday, isEstimate: eventsToday >= COUNTED_EVENTS },
      last_event_at: row.last_event_at,
      journal: await readJournals(context),
      alert_deliveries_pending: Number(row.alerts_pending),
      alert_dead_letters: Number(row.alerts_dead),
      warnings,
    };
    context.output.answer(
      document,
      alignTable([
        ['database', `${document.data_dir ?? document.database}, PostgreSQL ${row.server_version}`],
        ['server', describeServers(serverUrls, connections)],
        ['read mode', describeMode(mode)],
        ...rollups.flatMap(describeRollup),
        ['archive horizon', document.archive_horizon ?? 'none'],
        ['pending', describePending(pending.depth, pending.oldestAgeMs)],
        [
          'rows of other programs',
          document.counts_foreign_rows ? 'counted at once' : 'counted by backfill or repair',
        ],
        ['journal', describeJournal(document.journal)],
        ['alerts', describeAlerts(document.alert_deliveries_pending, document.alert_dead_letters)],
        ['users', describeSize(document.users)],
        ['organizations', describeSize(document.organizations)],
        ['usage rows', describeSize(document.usage)],
        ...describePartitions(partitions.document),
        ['daily rows', describeSize(document.usage_daily)],
        ['active keys', formatCount(document.active_keys)],
        ['events today', describeToday(document.events_today, row.today)],
        ['last event', formatInstantOr('none', row.last_event_at)],
        ...warnings.map((warning) => ['warning', warning]),
      ]),
    );
    return 0;
  });
}

const describeUrl = ({ shard }: CommandContext) =>
  shard === null ? 'DATABASE_URL' : `shard ${shard.name}`;

function describeServers(urls: readonly string[], connections: number): string {
  if (urls.length > 0) return urls.join(', ');
  const here = 'none from this data directory';
  if (connections === 0) return here;
  return `${here}; ${formatCount(connections)} connections of ledgers that are open elsewhere`;
}

/** What the gateways of this data directory have not yet brought into the database. */
async function readJournals(context: CommandContext) {
  const { inspectJournals } = await import('../journal/inspect.js');
  const { journalRoot } = await import('../journal/slots.js');
  return inspectJournals(journalRoot(context.environment.dataDir));
}

function toRollupDocument(row: OverviewRow) {
  return {
    rollup: row.rollup,
    periods: {
      unbuilt: Number(row.unbuilt),
      building: Number(row.building),
      built: Number(row.built),
      verified: Number(row.verified),
      archived: Number(row.archived),
    },
    first_period: row.first_period,
    last_period: row.last_period,
    drift_keys: Number(row.drift_keys),
    unbuilt_drift_keys: Number(row.unbuilt_drift_keys),
    drift_microdollars: toJsonInteger(row.drift_microdollars),
    last_verified_at: row.last_verified_at,
    backfill: {
      is_paused: row.is_paused,
      paused_at: row.paused_at,
      started_at: row.started_at,
      heartbeat_at: row.heartbeat_at,
      finished_at: row.finished_at,
      rows_done: Number(row.rows_done),
      rows_expected: Number(row.rows_expected),
    },
  };
}

function describeJournal(journals: Awaited<ReturnType<typeof readJournals>>): string {
  const records = journals.reduce((sum, journal) => sum + journal.records, 0);
  const deadLetters = journals.reduce((sum, journal) => sum + journal.deadLetters, 0);
  const depth = records === 0 ? 'empty' : `${formatCount(records)} records to be drained`;
  const letters = `${formatCount(deadLetters)} dead letters; \`dead-letters\` lists them`;
  return deadLetters === 0 ? depth : `${depth}, ${letters}`;
}

function describeAlerts(pending: number, dead: number): string {
  const waiting = pending === 0 ? 'all delivered' : `${formatCount(pending)} to be delivered`;
  const letters = `${formatCount(dead)} dead letters; \`alerts deliveries --state dead\` lists them`;
  return dead === 0 ? waiting : `${waiting}, ${letters}`;
}

function describeMode({ stored, effective, reason }: ReadModeStatus): string {
  const answers = effective === stored ? '' : `, answering from ${effective}`;
  return `${stored}${answers}${reason === null ? '' : ` (${reason})`}`;
}

function describeRollup(row: OverviewRow): string[][] {
  const states = (['unbuilt', 'building', 'built', 'verified', 'archived'] as const)
    .filter((state) => Number(row[state]) > 0)
    .map((state) => `${formatCount(Number(row[state]))} ${STATE_WORDS[state] ?? state}`);
  const coverage = states.length === 0 ? 'no period known yet' : states.join(', ');
  const verified = `last verified ${formatInstantOr('never', row.last_verified_at)}`;
  const lines = [[row.rollup, coverage], ...describeDrift(row, verified).map((line) => ['', line])];
  if (row.is_paused) {
    lines.push([
      '',
      `backfill paused since ${formatInstantOr('-', row.paused_at)}; \`backfill --resume\` lets it go on`,
    ]);
  } else if (row.started_at !== null && row.finished_at === null) {
    lines.push([
      '',
      `backfill since ${formatInstant(row.started_at)}, ` +
        `last sign of life ${formatInstantOr('never', row.heartbeat_at)}`,
    ]);
  }
  return lines;
}

const STATE_WORDS: Readonly<Record<string, string>> = { unbuilt: 'not built' };

/** What is not built yet is not wrong: nothing reads it. */
function describeDrift(row: OverviewRow, verified: string): string[] {
  const unbuilt = Number(row.unbuilt_drift_keys);
  const wrong = Number(row.drift_keys) - unbuilt;
  const amount = formatAmount(BigInt(row.drift_microdollars));
  const keys = (count: number, what: string) =>
    `${formatCount(count)} ${what}${count === 1 ? 'key' : 'keys'}`;
  const lines =
    wrong === 0
      ? [`no drift known; ${verified}`]
      : [`${keys(wrong, 'wrong ')}, ${amount}; \`repair\` fixes them; ${verified}`];
  if (unbuilt > 0) {
    lines.push(`${keys(unbuilt, '')} of periods that are not built; \`backfill\` builds them`);
  }
  return lines;
}

async function sizeOf(pool: Pool, table: CountedTable, counted: string): Promise<Size> {
  const exact = Number(counted);
  if (exact < COUNTED_ROWS) return { rows: exact, isEstimate: false };
  const { rows } = await pool.query(estimateStatement(table));
  const estimate = Number(rows[0]?.['QUERY PLAN']?.[0]?.Plan?.['Plan Rows'] ?? 0);
  return { rows: Math.max(exact, estimate), isEstimate: true };
}

function describeSize(size: Size): string {
  return `${size.isEstimate ? 'about ' : ''}${formatCount(size.rows)}`;
}

function describeToday(events: Size, today: string): string {
  return `${formatCount(events.rows)}${events.isEstimate ? ' or more' : ''} (UTC ${today})`;
}

function describePending(depth: number, oldestAgeMs: number): string {
  if (depth === 0) return 'none: the base tables are exact';
  const age = (oldestAgeMs / 1000).toFixed(1);
  return `${formatCount(depth)} rows, oldest ${age} s; \`fold\` drains them`;
}
