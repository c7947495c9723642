/** Every error the ledger answers with. A new code does not compile until it is mapped below. */
export type ErrorCode =
  | 'invalid_event'
  | 'invalid_request'
  | 'unknown_user'
  | 'unknown_organization'
  | 'unknown_usage'
  | 'already_exists'
  | 'idempotency_conflict'
  | 'archived_period'
  | 'refund_exceeds_cost'
  | 'insufficient_balance'
  | 'budget_exceeded'
  | 'unauthorized'
  | 'forbidden'
  | 'not_found'
  | 'payload_too_large'
  | 'too_many_requests'
  | 'unproven_window'
  | 'out_of_range'
  | 'unavailable'
  | 'internal';

/** HTTP status of an error (RFC 9110). */
export const HTTP_STATUS = {
  invalid_event: 400,
  invalid_request: 400,
  unknown_user: 404,
  unknown_organization: 404,
  unknown_usage: 404,
  already_exists: 409,
  idempotency_conflict: 409,
  archived_period: 410,
  refund_exceeds_cost: 409,
  insufficient_balance: 402,
  budget_exceeded: 402,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  payload_too_large: 413,
  too_many_requests: 429,
  unproven_window: 409,
  out_of_range: 422,
  unavailable: 503,
  internal: 500,
} as const satisfies Record<ErrorCode, number>;

/** Exit status of a command: 1 it ran and found something wrong, 2 usage, 3 could not run. */
export const EXIT_STATUS = {
  invalid_event: 1,
  invalid_request: 2,
  unknown_user: 1,
  unknown_organization: 1,
  unknown_usage: 1,
  already_exists: 1,
  idempotency_conflict: 1,
  archived_period: 1,
  refund_exceeds_cost: 1,
  insufficient_balance: 1,
  budget_exceeded: 1,
  unauthorized: 1,
  forbidden: 1,
  not_found: 1,
  payload_too_large: 1,
  too_many_requests: 1,
  unproven_window: 1,
  out_of_range: 1,
  unavailable: 3,
  internal: 3,
} as const satisfies Record<ErrorCode, number>;

/** Whether the same call may succeed later; it is always safe to repeat (I3). */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set(['unavailable', 'too_many_requests']);

/** Messages name the field and the remedy; never query parameters, never secrets. */
export class LedgerError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;
  readonly retryable: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options: { details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'LedgerError';
    this.code = code;
    this.details = options.details ?? {};
    this.retryable = RETRYABLE.has(code);
  }
}

/**
 * The payer is known here, but its money and usage are on another shard (src/shards), or on their way to it:
 * nothing was written, and whoever knows the shards asks there.
 * @param field that names the payer
 */
export function elsewhere(
  scope: 'user' | 'organization',
  details: Record<string, unknown> = {},
  field = scope === 'user' ? 'kilo_user_id' : 'organization_id',
): LedgerError {
  return new LedgerError(
    scope === 'user' ? 'unknown_user' : 'unknown_organization',
    `${field} names ${scope === 'user' ? 'a user' : 'an organization'} of another shard`,
    { details: { field, is_elsewhere: true, ...details } },
  );
}

export function isElsewhere(error: unknown): boolean {
  return error instanceof LedgerError && error.details.is_elsewhere === true;
}
