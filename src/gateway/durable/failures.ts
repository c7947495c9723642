import { classifyFailure, sqlStateOf, toLedgerError } from '../../db/sqlstate.js';
import { type ErrorCode, LedgerError } from '../../errors.js';

/** Refusals that no later try changes: the event itself is at fault. */
const PERMANENT: ReadonlySet<ErrorCode> = new Set([
  'invalid_event',
  'unknown_user',
  'unknown_organization',
  'idempotency_conflict',
  'archived_period',
  'out_of_range',
]);

/** Failures of one statement; the database itself is well. */
const STATEMENT_STATES: ReadonlySet<string> = new Set(['40001', '40P01', '26000']);

export function isPermanent(error: unknown): boolean {
  return error instanceof LedgerError && PERMANENT.has(error.code);
}

/** Whether the failure says that the database takes no writes now, not just this one. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof LedgerError)) {
    const state = sqlStateOf(error);
    return classifyFailure(error) === 'retry' && (state === null || !STATEMENT_STATES.has(state));
  }
  if (error.code !== 'unavailable' || !('sqlstate' in error.details)) return false;
  return isDatabaseAway(error.cause ?? { code: error.details.sqlstate });
}

export { toLedgerError };
