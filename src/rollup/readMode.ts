import type { Query } from '../db/query.js';
import { LedgerError } from '../errors.js';
import type { ReadMode } from '../schema/settings.js';
import type { RollupDatabase } from './database.js';
import {
  fallBackStatement,
  LEASE_MINUTES,
  REQUIRED_COMPARISONS,
  type ReadModeRow,
  readModeStatement,
  storeModeStatement,
} from './readMode.sql.js';

/**
 * The read switch (I10). The mode is stored in `ledger_settings`, so that all processes agree; each
 * follows it within a second, and by its own clock no longer than the lease
 * (`readModeFollower.ts`).
 *
 *   raw --> shadow --> rollup       `rollup` only through the gate below
 *    ^-------+-----------+          at any time by hand; by itself on a mismatch
 */
export interface ReadModeStatus {
  /** What was asked for. */
  stored: ReadMode;
  /** What reads use: `raw` too while the proof of a stored `rollup` has run out. */
  effective: ReadMode;
  reason: string | null;
  gate: ReadModeGate;
  /** Usage before it is archived, seconds since 1970; null = none is. */
  archiveHorizonSeconds: number | null;
  /** Of a shard, its name there; null: the ledger is none. */
  shardName: string | null;
}

export interface ReadModeGate {
  isOpen: boolean;
  /** What is still unproven, in sentences. */
  obstacles: string[];
  /** UTC days of the three-month window, today included. */
  unprovenDays: string[];
  /** UTC days whose last check found drift. */
  driftedDays: string[];
  /** Age of the last verification of today and yesterday, ms; null = none. */
  leaseAgeMs: number | null;
  leaseMinutes: number;
  /** For how long reads may rely on this without another look at the database, ms. */
  leaseLeftMs: number;
  shadow: { comparisons: number; mismatches: number; required: number; since: string | null };
}

export async function readReadMode(query: Query): Promise<ReadModeStatus> {
  const [row] = await query<ReadModeRow>(readModeStatement());
  if (!row) {
    throw new LedgerError('internal', 'ledger_settings has no row; run `microdollar migrate`');
  }
  return judge(row);
}

function judge(row: ReadModeRow): ReadModeStatus {
  const shadow = {
    comparisons: Number(row.shadow_comparisons),
    mismatches: Number(row.shadow_mismatches),
    required: REQUIRED_COMPARISONS,
    since: row.shadow_since,
  };
  const days = [...new Set([...row.unproven_days, ...row.drifted_days])].sort();
  const obstacles: string[] = [];
  if (row.drifted_days.length > 0) {
    obstacles.push(`drift was found on ${describeDays(row.drifted_days)}; run \`repair\``);
  }
  if (row.unproven_days.length > 0) {
    obstacles.push(
      `not built and verified: ${describeDays(row.unproven_days)}; run \`backfill\`, then ` +
        `\`verify\` (today and yesterday count for ${LEASE_MINUTES} minutes)`,
    );
  }
  const isProven = obstacles.length === 0;
  if (!row.installed_empty && shadow.mismatches > 0) {
    obstacles.push(
      `shadow found ${shadow.mismatches} mismatches; run \`verify\`, \`repair\`, then ` +
        '`read-mode raw` and `read-mode shadow` to begin again',
    );
  } else if (!row.installed_empty && shadow.comparisons < shadow.required) {
    obstacles.push(
      `shadow has made ${shadow.comparisons} of ${shadow.required} comparisons; run ` +
        `\`read-mode shadow --compare ${shadow.required}\``,
    );
  }
  const isLapsed = row.read_mode === 'rollup' && !isProven;
  return {
    stored: row.read_mode,
    effective: isLapsed ? 'raw' : row.read_mode,
    reason: isLapsed ? `answering from raw usage: ${obstacles[0]}` : row.read_mode_reason,
    gate: {
      isOpen: obstacles.length === 0,
      obstacles,
      unprovenDays: days,
      driftedDays: row.drifted_days,
      leaseAgeMs: row.lease_age_ms,
      leaseMinutes: LEASE_MINUTES,
      leaseLeftMs: leaseLeft(row),
      shadow,
    },
    archiveHorizonSeconds: row.archive_horizon_seconds,
    shardName: row.shard_name,
  };
}

/**
 * Until the verification of today and yesterday is too old. A ledger that was installed empty is
 * right by construction, but what a check found meanwhile must reach its processes too.
 */
function leaseLeft(row: ReadModeRow): number {
  const leaseMs = LEASE_MINUTES * 60_000;
  if (row.installed_empty) return leaseMs;
  return Math.max(0, leaseMs - (row.lease_age_ms ?? leaseMs));
}

/**
 * Switches, `rollup` only when the gate is open. The settings row is locked meanwhile, so a
 * fall-back cannot be overwritten by a switch that was judged before it. Idempotent.
 * @throws LedgerError `unproven_window` with the obstacles and the unproven days
 */
export async function setReadMode(
  database: Pick<RollupDatabase, 'transaction'>,
  mode: ReadMode,
): Promise<ReadModeStatus> {
  return database.transaction(async (query) => {
    await query({
      name: 'microdollar_lock_settings',
      text: '/* microdollar.lockSettings */ select from ledger_settings for update',
      values: [],
    });
    const { stored, gate } = await readReadMode(query);
    if (mode === 'rollup' && stored !== 'rollup' && !gate.isOpen) {
      throw new LedgerError('unproven_window', `refused: ${gate.obstacles.join('; ')}`, {
        details: {
          obstacles: gate.obstacles,
          unproven_days: gate.unprovenDays,
          shadow_comparisons: gate.shadow.comparisons,
          shadow_mismatches: gate.shadow.mismatches,
        },
      });
    }
    if (mode !== stored) await query(storeModeStatement(mode, null));
    return readReadMode(query);
  });
}

/** Back to raw usage when `rollup` is in use; true when this call switched. Idempotent. */
export async function fallBackToRaw(query: Query, reason: string): Promise<boolean> {
  return (await query(fallBackStatement(reason))).length > 0;
}

/** Where reads do not come from the rollup: that, and what leads back to it, a sentence each. */
export function describeWayBack({ stored, effective, reason, gate }: ReadModeStatus): string[] {
  if (effective === 'rollup') return [];
  const isLapsed = stored === 'rollup';
  const why = reason === null || isLapsed ? '' : ` (${reason})`;
  return [
    `reads come from raw usage${why}`,
    ...gate.obstacles.map((obstacle) => `before they come from the rollup again: ${obstacle}`),
    ...(isLapsed ? [] : ['then `read-mode rollup`']),
  ];
}

/** 2026-11-01 to 2026-11-03, 2026-11-07 */
export function describeDays(days: readonly string[]): string {
  const runs: { first: string; last: string }[] = [];
  for (const day of days) {
    const run = runs.at(-1);
    if (run && Date.parse(day) - Date.parse(run.last) === 86_400_000) run.last = day;
    else runs.push({ first: day, last: day });
  }
  const shown = runs.slice(0, 6).map(({ first, last }) => {
    return first === last ? first : `${first} to ${last}`;
  });
  const more = runs.length - shown.length;
  if (more > 0) shown.push(`and ${more} more ${more === 1 ? 'stretch' : 'stretches'}`);
  return shown.join(', ');
}
