import { type ErrorCode, LedgerError } from '../../errors.js';
import type { Provider } from './apis.js';

/** Why the gateway itself, not the provider, answers with an error. */
export type RefusalReason =
  | 'invalid_request'
  | 'unauthorized'
  | 'insufficient_balance'
  | 'budget_exceeded'
  | 'budget_resets'
  | 'forbidden'
  | 'not_found'
  | 'not_supported'
  | 'model_not_served'
  | 'method_not_allowed'
  | 'request_timeout'
  | 'conflict'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'upgrade_required'
  | 'too_many_requests'
  | 'upstream_not_configured'
  | 'upstream_unreachable'
  | 'upstream_timeout'
  | 'unavailable'
  | 'internal';

export interface RefusalShape {
  status: number;
  /** `error.type` of OpenAI. */
  openaiType: string;
  /** `error.type` of Anthropic. */
  anthropicType: string;
  /** `error.code` of OpenAI, where it is not the reason. */
  code?: string;
}

export const REFUSAL_SHAPES = {
  invalid_request: shape(400, 'invalid_request_error', 'invalid_request_error'),
  unauthorized: shape(401, 'authentication_error', 'authentication_error'),
  insufficient_balance: shape(402, 'insufficient_quota', 'billing_error'),
  budget_exceeded: shape(402, 'insufficient_quota', 'billing_error'),
  budget_resets: { ...shape(429, 'rate_limit_error', 'rate_limit_error'), code: 'budget_exceeded' },
  forbidden: shape(403, 'permission_error', 'permission_error'),
  not_found: shape(404, 'invalid_request_error', 'not_found_error'),
  not_supported: shape(404, 'invalid_request_error', 'not_found_error'),
  model_not_served: shape(404, 'invalid_request_error', 'not_found_error'),
  method_not_allowed: shape(405, 'invalid_request_error', 'invalid_request_error'),
  request_timeout: shape(408, 'invalid_request_error', 'timeout_error'),
  conflict: shape(409, 'invalid_request_error', 'invalid_request_error'),
  payload_too_large: shape(413, 'invalid_request_error', 'request_too_large'),
  unsupported_media_type: shape(415, 'invalid_request_error', 'invalid_request_error'),
  upgrade_required: shape(426, 'invalid_request_error', 'invalid_request_error'),
  too_many_requests: shape(429, 'rate_limit_error', 'rate_limit_error'),
  upstream_not_configured: shape(503, 'server_error', 'api_error'),
  upstream_unreachable: shape(502, 'server_error', 'api_error'),
  upstream_timeout: shape(504, 'server_error', 'timeout_error'),
  unavailable: shape(503, 'server_error', 'overloaded_error'),
  internal: shape(500, 'server_error', 'api_error'),
} as const satisfies Record<RefusalReason, RefusalShape>;

/** Of Fastify's own errors, and of those that the server marks with a status. */
const REASON_OF_STATUS: Readonly<Record<number, RefusalReason>> = {
  404: 'not_found',
  405: 'method_not_allowed',
  408: 'request_timeout',
  413: 'payload_too_large',
  415: 'unsupported_media_type',
  503: 'unavailable',
};

/** What the same request may meet with success later; the providers' clients repeat the rest too. */
const WORTH_REPEATING: ReadonlySet<RefusalReason> = new Set([
  'request_timeout',
  'too_many_requests',
  'budget_resets',
  'upstream_unreachable',
  'upstream_timeout',
  'unavailable',
  'internal',
]);

/** Of a `LedgerError`; what the ledger alone knows is not the caller's business. */
const REASON_OF_CODE = {
  invalid_event: 'invalid_request',
  invalid_request: 'invalid_request',
  unknown_user: 'forbidden',
  unknown_organization: 'forbidden',
  unknown_usage: 'internal',
  already_exists: 'internal',
  idempotency_conflict: 'internal',
  archived_period: 'internal',
  refund_exceeds_cost: 'internal',
  insufficient_balance: 'insufficient_balance',
  budget_exceeded: 'budget_exceeded',
  unauthorized: 'unauthorized',
  forbidden: 'forbidden',
  not_found: 'not_found',
  payload_too_large: 'payload_too_large',
  too_many_requests: 'too_many_requests',
  unproven_window: 'internal',
  out_of_range: 'internal',
  unavailable: 'unavailable',
  internal: 'internal',
} as const satisfies Record<ErrorCode, RefusalReason>;

export class Refusal extends Error {
  readonly reason: RefusalReason;
  readonly status: number;
  readonly param: string | null;
  readonly retryAfterSeconds: number | null;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(
    reason: RefusalReason,
    message: string,
    options: {
      param?: string;
      retryAfterSeconds?: number;
      headers?: Readonly<Record<string, string>>;
      cause?: unknown;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'Refusal';
    this.reason = reason;
    this.status = REFUSAL_SHAPES[reason].status;
    this.param = options.param ?? null;
    this.retryAfterSeconds = options.retryAfterSeconds ?? (reason === 'unavailable' ? 1 : null);
    this.#headers = options.headers ?? {};
  }

  get headers(): Record<string, string> {
    return {
      ...(this.retryAfterSeconds === null ? {} : { 'retry-after': String(this.retryAfterSeconds) }),
      // Some clients repeat a 401 for minutes: a wrong key, or a missing setting, stays what it is.
      ...(WORTH_REPEATING.has(this.reason) ? {} : { 'x-should-retry': 'false' }),
      ...this.#headers,
    };
  }

  /** As the provider's own API words its errors. */
  body(provider: Provider): object {
    const {
      openaiType,
      anthropicType,
      code = this.reason,
    }: RefusalShape = REFUSAL_SHAPES[this.reason];
    if (provider === 'anthropic') {
      return { type: 'error', error: { type: anthropicType, message: this.message } };
    }
    return {
      error: { message: this.message, type: openaiType, param: this.param, code },
    };
  }
}

/** Whatever was thrown before the provider answered. Unknown errors say nothing of themselves. */
export function toRefusal(error: unknown, bodyLimitBytes: number): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof LedgerError) {
    const { field } = error.details;
    const param = typeof field === 'string' ? { param: field } : {};
    return new Refusal(REASON_OF_CODE[error.code], error.message, { ...param, cause: error });
  }
  const { statusCode } = error as { statusCode?: unknown };
  if (typeof statusCode === 'number' && statusCode !== 500) {
    const reason = REASON_OF_STATUS[statusCode] ?? 'invalid_request';
    const message =
      reason === 'payload_too_large'
        ? `the body exceeds the gateway's limit of ${bodyLimitBytes} bytes`
        : (error as Error).message;
    return new Refusal(reason, message);
  }
  return new Refusal('internal', 'internal error of the gateway; its log has it', {
    cause: error,
  });
}

function shape(status: number, openaiType: string, anthropicType: string): RefusalShape {
  return { status, openaiType, anthropicType };
}
