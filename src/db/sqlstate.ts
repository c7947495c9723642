import { LedgerError } from '../errors.js';

/**
 * What a failure of the database means for the caller.
 * - `retry`: nothing is wrong with the statement; send it again (it is idempotent by id, I3)
 * - `contended`: a lock or statement timeout; send it again, a batch in smaller parts
 * - `data`: the statement's own values are refused; the bad event must be isolated
 * - `setup`: wrong schema, role or configuration; no retry helps
 */
export type FailureKind = 'retry' | 'contended' | 'data' | 'setup';

const KIND_BY_STATE: Readonly<Record<string, FailureKind>> = {
  '25006': 'retry', // read-only transaction: connected to a standby during a failover
  '40001': 'retry',
  '40P01': 'retry',
  '55P03': 'contended', // lock_not_available
  '57014': 'contended', // query_canceled: statement timeout
  '57P01': 'retry', // admin_shutdown
  '57P02': 'retry', // crash_shutdown
  '57P03': 'retry', // cannot_connect_now
  '57P05': 'retry', // idle_session_timeout
  '25P03': 'retry', // idle_in_transaction_session_timeout
  '25P04': 'contended', // transaction_timeout: of one statement, too
  '54000': 'data',
  // A pooler swapped the connection under a prepared statement: it is gone, or another's is there.
  '26000': 'retry',
  '42P05': 'retry',
};

const KIND_BY_CLASS: Readonly<Record<string, FailureKind>> = {
  '08': 'retry', // connection exceptions
  '53': 'retry', // insufficient resources: too many connections, disk full, out of memory
  '58': 'retry', // system error
  '22': 'data',
  '23': 'data',
};

/** SQLSTATE of an error, or null when the database never answered: EPIPE has five letters too. */
export function sqlStateOf(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^(?!E[A-Z]{4})[0-9A-Z]{5}$/.test(code) ? code : null;
}

/** Short stable name of a failure for metrics: SQLSTATE, system error code or `connection`. */
export function failureName(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'connection';
}

const OUR_MISTAKES = [TypeError, ReferenceError, RangeError, SyntaxError] as const;
const FILE_ERRORS: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO']);

/** Of a file, and no connection's: those name no `path`, also where they go to a socket in a directory. */
function isOfFile(error: unknown): boolean {
  return FILE_ERRORS.has(failureName(error)) || (error instanceof Error && 'path' in error);
}

/** A pooler in transaction mode that refuses what our connections set when they open. */
function isRefusedByPooler(error: unknown): boolean {
  return sqlStateOf(error) === '08P01' && /unsupported startup param/.test(String(error));
}

/**
 * Of a pooler that had no place for the session, or no server (Supavisor, Neon). What fails within PostgreSQL
 * says so of a statement, and leaves the session.
 */
function isRefusedSession(error: unknown): boolean {
  return sqlStateOf(error) === 'XX000' && (error as { severity?: unknown }).severity === 'FATAL';
}

/** Prepared on a connection that a pooler has since swapped for another. */
const SWAPPED_CONNECTION: ReadonlySet<string> = new Set(['26000', '42P05']);

/** Of a named statement, which the same without a name does not meet; it did nothing. */
export function isOfName(error: unknown): boolean {
  return SWAPPED_CONNECTION.has(sqlStateOf(error) ?? '') || isStalePlan(error);
}

/** The statement ran into its time, or into that of its transaction. */
export function isStatementTimeout(error: unknown): boolean {
  return ['57014', '25P04'].includes(sqlStateOf(error) ?? '');
}

/**
 * A prepared statement answers with other types than when it was prepared, for somebody altered a table:
 * on another connection it is prepared anew. By the routine, for messages are translated.
 */
export function isStalePlan(error: unknown): boolean {
  const { routine } = error as { routine?: unknown };
  return sqlStateOf(error) === '0A000' && routine === 'RevalidateCachedQuery';
}

/**
 * The statement alone was refused, and its session is as good as before. Not so after others: it may
 * have ended, be a standby's, or keep a statement prepared that fails again and again.
 */
export function leavesSession(error: unknown): boolean {
  return /^(22|23|40001|40P01|55P03|57014)/.test(sqlStateOf(error) ?? '');
}

/**
 * What a node says that a schema of Citus has left (citus/). As a shutdown: the session is of no use any
 * more, the statement did nothing, and another connection finds the schema where it is.
 */
export const MOVED = {
  code: '57P01',
  message: 'the schema of this ledger has moved to another node',
} as const;

export function isMoved(error: unknown): boolean {
  return sqlStateOf(error) === MOVED.code && (error as Error).message === MOVED.message;
}

/** There is no such table, schema or function, or no longer. */
export function isGone(error: unknown): boolean {
  return ['42P01', '3F000', '42883'].includes(sqlStateOf(error) ?? '');
}

/** A key was there already. */
export function isUniqueViolation(error: unknown): boolean {
  return sqlStateOf(error) === '23505';
}

/** Someone else held a lock for too long. */
export const LOCK_TIMEOUT = '55P03';

export function isLockTimeout(error: unknown): boolean {
  return sqlStateOf(error) === LOCK_TIMEOUT;
}

/**
 * The id is of a month whose partition is being prepared (migrate/partitions): it can be written once
 * that is attached. By the check that keeps such ids out of the default partition, or by the bounds of
 * that one, which changed after the id was sent there.
 */
export function isAwaitingPartition(error: unknown): boolean {
  if (sqlStateOf(error) !== '23514') return false;
  const { constraint, table } = error as { constraint?: string; table?: string };
  return constraint === undefined
    ? table === 'microdollar_usage_default'
    : constraint.startsWith('microdollar_usage_prepare_');
}

/** A lock was waited for too long, or two waited for each other. */
export function isLockConflict(error: unknown): boolean {
  return ['55P03', '40P01'].includes(sqlStateOf(error) ?? '');
}

/** A parameter has a value that the server does not know, such as the name of a time zone. */
export function isInvalidParameter(error: unknown): boolean {
  return sqlStateOf(error) === '22023';
}

/** A number does not fit its type. */
function isOutOfRange(error: unknown): boolean {
  return sqlStateOf(error) === '22003';
}

/** The role lacks a right. */
export function isNotPermitted(error: unknown): boolean {
  return sqlStateOf(error) === '42501';
}

/** A row moved on after the snapshot of its transaction. */
export function isSerializationFailure(error: unknown): boolean {
  return sqlStateOf(error) === '40001';
}

/** A replica, or a role that may only read. */
export function isReadOnlyRefusal(error: unknown): boolean {
  return ['25006', '42501'].includes(sqlStateOf(error) ?? '');
}

const POOL_IN_USE = 'every connection of this process for it is in use; try again';

const POOLER_REMEDY =
  'behind a pooler in transaction mode set MICRODOLLAR_POOLER=transaction, or open the ledger with ' +
  '`preparedStatements: false`';

export function classifyFailure(error: unknown): FailureKind {
  const state = sqlStateOf(error);
  if (isRefusedByPooler(error)) return 'setup';
  if (state === null) {
    // The connection broke, was refused, or timed out; unless the mistake is our own, or a file's.
    const isOurs = OUR_MISTAKES.some((mistake) => error instanceof mistake);
    return isOurs || isOfFile(error) ? 'setup' : 'retry';
  }
  if (isAwaitingPartition(error)) return 'contended';
  if (isStalePlan(error) || isRefusedSession(error)) return 'retry';
  return KIND_BY_STATE[state] ?? KIND_BY_CLASS[state.slice(0, 2)] ?? 'setup';
}

/** The LedgerError for a failure that was not, or no longer, retried. Never carries parameters. */
export function toLedgerError(error: unknown): LedgerError {
  if (error instanceof LedgerError) return error;
  const state = sqlStateOf(error);
  const kind = classifyFailure(error);
  const said = error instanceof Error ? error.message : String(error);
  const isPooler = isRefusedByPooler(error) || SWAPPED_CONNECTION.has(state ?? '');
  const message = isPooler ? `${said}; ${POOLER_REMEDY}` : said;
  const details = { sqlstate: state };
  if (/after calling end on the pool/.test(said)) {
    return new LedgerError('unavailable', 'the ledger is closed', { cause: error });
  }
  if (kind === 'retry' || kind === 'contended') {
    const unreachable = `database unreachable (${failureName(error)})`;
    const what = isPoolInUse(error) ? POOL_IN_USE : state === null ? unreachable : message;
    return new LedgerError('unavailable', what, { details, cause: error });
  }
  if (kind === 'data') {
    return new LedgerError(isOutOfRange(error) ? 'out_of_range' : 'invalid_event', message, {
      details,
      cause: error,
    });
  }
  if (state === '42P01' || state === '42883' || state === '42703') {
    return new LedgerError('internal', `${message}; run \`microdollar migrate\` first`, {
      details,
      cause: error,
    });
  }
  return new LedgerError('internal', message, { details, cause: error });
}

/** Whoever waits for a connection of a pool that is all in use is told so by the driver, without a code. */
const isPoolInUse = (error: unknown): boolean =>
  error instanceof Error && error.message === 'timeout exceeded when trying to connect';

/** Failures of one statement; the database itself is well. */
export const STATEMENT_STATES: ReadonlySet<string> = new Set([
  '40001',
  '40P01',
  '0A000',
  ...SWAPPED_CONNECTION,
]);

/**
 * Whether the failure says that the database takes no writes now, not just this one. That a pool is all in
 * use says nothing of it: who uses it finds out.
 */
export function isDatabaseAway(error: unknown): boolean {
  if (isPoolInUse(error)) return false;
  if (!(error instanceof LedgerError)) {
    const state = sqlStateOf(error);
    return classifyFailure(error) === 'retry' && (state === null || !STATEMENT_STATES.has(state));
  }
  if (error.code !== 'unavailable' || !('sqlstate' in error.details)) return false;
  return isDatabaseAway(error.cause ?? { code: error.details.sqlstate });
}

/** A row is refused for what is in it: by a type, a constraint, or a trigger of another program. */
export const isRefusedRow = (error: unknown): boolean =>
  /^(22|23|P0001)/.test(sqlStateOf(error) ?? '');
