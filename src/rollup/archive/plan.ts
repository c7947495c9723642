import { readDay } from '../../days.js';
import type { Query } from '../../db/query.js';
import { LedgerError } from '../../errors.js';
import { openRollupDatabase, requireWritable } from '../database.js';
import type { PeriodFailure } from '../periodFailure.js';
import { describeDays } from '../readMode.js';
import { requireUsableDirectory } from './fileSystem.js';
import { leftOutColumnsStatement } from './leftOut.sql.js';
import {
  type BlockerRow,
  findBlockersStatement,
  type PlanDayRow,
  planDaysStatement,
} from './plan.sql.js';
import type { ArchiveOptions, ArchivePlan, Blocker, BlockerKind } from './types.js';

/**
 * Callers that give no `created_at` may still send an event of the last day again; its id must
 * be there to catch it for at least this long.
 */
const MIN_AGE_HOURS = 1;

/**
 * What an archive until this day would do, and what is in its way. Changes nothing.
 * @throws LedgerError `invalid_request` for the day or the directory, `unavailable` on a replica
 */
export async function planArchive(
  options: Pick<ArchiveOptions, 'url' | 'viaPooler' | 'until' | 'directory'>,
): Promise<ArchivePlan> {
  readDay('until', options.until);
  await requireUsableDirectory(options.directory);
  const database = openRollupDatabase(options.url, 1, options);
  try {
    await requireWritable(database.query);
    return await makePlan(database.query, options.until);
  } finally {
    await database.close();
  }
}

export async function makePlan(query: Query, until: string): Promise<ArchivePlan> {
  const rows = await query<PlanDayRow>(planDaysStatement(until));
  const [first] = rows;
  if (!first) throw new Error('the plan has no row');
  requirePast(until, first);
  const days = rows
    .filter((row) => row.day !== null && (row.state !== 'archived' || row.has_raw_rows))
    .map((row) => ({ ...row, day: row.day ?? '' }));
  const blockers = [
    ...days.filter((row) => !row.is_proven).map(unprovenDay),
    ...(await findBlockers(query, until)),
  ];
  const left = blockers.filter(({ kind }) => !keepsAllDays(kind));
  const leftDays = new Set(left.map(({ day }) => day));
  return {
    until,
    horizon: first.horizon,
    days: days
      .filter(({ day }) => !leftDays.has(day))
      .map((row) => ({
        day: row.day,
        state: row.state,
        rawRows: row.raw_rows === null ? null : Number(row.raw_rows),
        costMicrodollars:
          row.raw_cost_microdollars === null ? null : BigInt(row.raw_cost_microdollars),
      })),
    blockers,
    left,
    leftOut: (await query<{ name: string }>(leftOutColumnsStatement())).map(({ name }) => name),
  };
}

/** What has no way back is told before it goes. */
export function describeLeftOut(columns: readonly string[]): string {
  return `columns of other programs are in no file, and go with the rows: ${columns.join(', ')}`;
}

function unprovenDay({ day, is_drifted }: { day: string; is_drifted: boolean }): Blocker {
  return { kind: is_drifted ? 'drift' : 'unproven', day, rows: 0 };
}

/**
 * Days that were not verified keep the horizon down, as does usage that it would refuse. What is
 * wrong with one day keeps nobody else's from being archived (I12).
 */
function keepsAllDays(kind: BlockerKind): boolean {
  return kind === 'unproven' || kind === 'request_in_flight';
}

/** What is in the way apart from the proof. */
export async function findBlockers(query: Query, until: string): Promise<Blocker[]> {
  const rows = await query<BlockerRow>(findBlockersStatement(until));
  return rows.map((row) => ({ kind: row.kind, day: row.day, rows: Number(row.rows) }));
}

function requirePast(until: string, { today, hours_since_end: hours }: PlanDayRow): void {
  const details = { field: 'until', today };
  if (until >= today) {
    throw new LedgerError(
      'invalid_request',
      `until must be a day that is over; today is ${today} UTC`,
      { details },
    );
  }
  if (hours < MIN_AGE_HOURS) {
    throw new LedgerError(
      'invalid_request',
      `${until} ended less than ${MIN_AGE_HOURS} hour ago: its events may still be sent again`,
      { details },
    );
  }
}

const REMEDY: Record<BlockerKind, (rows: number) => string> = {
  unproven: () => 'not verified after their end; run `backfill`, `verify`',
  drift: () => 'the last verification found drift; run `verify`, `repair`',
  unpriced: (rows) => `${rows} usage rows without a price; run \`price-unpriced\``,
  prices_later_usage: (rows) =>
    `${rows} rows that price usage of a later day; archive that day with them`,
  request_in_flight: (rows) => `${rows} gateway requests whose usage is not recorded yet`,
};

/** All reasons in one sentence each, with their days. */
export function describeBlockers(blockers: readonly Blocker[]): string[] {
  const kinds = [...new Set(blockers.map((blocker) => blocker.kind))];
  return kinds.map((kind) => {
    const own = blockers.filter((blocker) => blocker.kind === kind);
    const rows = own.reduce((sum, blocker) => sum + blocker.rows, 0);
    return `${describeDays(own.map((blocker) => blocker.day))}: ${REMEDY[kind](rows)}`;
  });
}

/** The same, one for each day. */
export function toFailures(blockers: readonly Blocker[]): PeriodFailure[] {
  return blockers.map(({ kind, day, rows }) => ({ period: day, message: REMEDY[kind](rows) }));
}

/** @throws LedgerError `unproven_window` listing every day and reason */
export function requireNoBlockers(blockers: readonly Blocker[], remark = ''): void {
  if (blockers.length === 0) return;
  throw new LedgerError(
    'unproven_window',
    `cannot archive: ${describeBlockers(blockers).join('; ')}${remark}`,
    {
      details: {
        blockers,
        unproven_days: blockers
          .filter(({ kind }) => kind === 'unproven' || kind === 'drift')
          .map(({ day }) => day)
          .sort(),
      },
    },
  );
}
