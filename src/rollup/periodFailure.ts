import { classifyFailure, toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';

/** A period that could not be worked on, and why; the rest of the job went on (I12). */
export interface PeriodFailure {
  /** First UTC day. */
  period: string;
  message: string;
}

/**
 * Whether the failure is one of the period's own: its rows, or a lock that somebody holds on them.
 * Anything else, such as a missing right or table, would meet every other period as well.
 */
export function isOfPeriod(error: unknown): boolean {
  if (error instanceof LedgerError) return false;
  const kind = classifyFailure(error);
  return kind === 'data' || kind === 'contended';
}

export function describeFailure(period: string, error: unknown): PeriodFailure {
  return { period, message: toLedgerError(error).message };
}
