import { toLedgerError } from '../../db/sqlstate.js';
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

export function isPermanent(error: unknown): boolean {
  return error instanceof LedgerError && PERMANENT.has(error.code);
}

/** One shard of a ledger of several is away; the others are not. */
export function isOfShard(error: unknown): error is LedgerError {
  return error instanceof LedgerError && typeof error.details.shard === 'string';
}

/** Of this id alone, which another transaction holds, or held and ended without it. */
function isOfId(error: unknown): boolean {
  return error instanceof LedgerError && typeof error.details.id === 'string';
}

/** Says nothing of the others: they go past it, and it is tried again. */
export function isOfOne(error: unknown): boolean {
  return (isOfShard(error) || isOfId(error)) && toLedgerError(error).code === 'unavailable';
}

export { toLedgerError };
