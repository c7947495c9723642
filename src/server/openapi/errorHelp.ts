import { type ErrorCode, HTTP_STATUS } from '../../errors.js';
import { REFUSAL_SHAPES, type RefusalReason } from '../../gateway/proxy/refusal.js';
import type { Facts } from './types.js';

interface Help {
  meaning: string;
  remedy: string;
}

/** What each code says, and what to do. */
const ERROR_HELP = {
  invalid_event: {
    meaning: 'A field of an event or a hold is wrong; `details.field` names it.',
    remedy: 'Correct the field; the same again is refused again.',
  },
  invalid_request: {
    meaning: 'The request cannot be read, or a parameter is wrong; `details.field` names it.',
    remedy: 'Correct the request.',
  },
  unknown_user: {
    meaning: 'There is no such user.',
    remedy: 'Create it with `POST /api/users`, then send the same again.',
  },
  unknown_organization: {
    meaning: 'There is no such organization.',
    remedy: 'Create it with `POST /api/organizations`, then send the same again.',
  },
  unknown_usage: {
    meaning: 'There is no usage row with this id.',
    remedy: 'Of an archived period, record a signed event instead of an adjustment.',
  },
  already_exists: {
    meaning: 'A user, organization, key or membership with this id is there, or a job is running.',
    remedy: 'Use it, or take another id; of a job wait for its end.',
  },
  idempotency_conflict: {
    meaning: 'The id is that of another event, hold or credit.',
    remedy: 'A retry sends the same content; anything else needs an id of its own.',
  },
  archived_period: {
    meaning: 'The time of the event lies in a period whose rows were archived.',
    remedy: 'Date it later; a late correction is a signed event of today.',
  },
  refund_exceeds_cost: {
    meaning: 'The refund is more than what is left of what the request cost.',
    remedy: 'Refund less, or set `force`.',
  },
  insufficient_balance: {
    meaning: 'The balance does not cover it.',
    remedy: 'Add credit.',
  },
  budget_exceeded: {
    meaning:
      'A budget does not cover the hold; `details` has the budget, what is left and when it ' +
      'resets. 429 with `retry-after` where the end of a window helps, 402 where only money ' +
      'does.',
    remedy: 'Wait for the window, raise the budget, add credit, or hold less.',
  },
  unauthorized: {
    meaning: 'No key, a wrong one, or one that was revoked.',
    remedy: 'Send `Authorization: Bearer <key>`.',
  },
  forbidden: {
    meaning: 'The key lacks the scope, or the data is not its to see or change.',
    remedy: 'Use a key that may; the message names the scope or the field.',
  },
  not_found: {
    meaning: 'There is nothing at this path, or under this id.',
    remedy: 'Check path and id.',
  },
  payload_too_large: {
    meaning: 'More than 1,000 events or 4 MiB in one request.',
    remedy: 'Split it; what was sent was not recorded.',
  },
  too_many_requests: {
    meaning: 'This was asked for too often; the message says how long to wait.',
    remedy: 'Wait, then try again.',
  },
  unproven_window: {
    meaning: 'The rollup is not proven for the window that reads use.',
    remedy:
      'Do what the message names: `backfill` and `verify` of days, or comparisons in `shadow`.',
  },
  out_of_range: {
    meaning: 'A sum would leave the range of exact integers.',
    remedy: 'Use a smaller amount.',
  },
  unavailable: {
    meaning: 'The database is away, or the server is stopping. `details.retryable` is true.',
    remedy: 'Send the same again after `retry-after`, with the same ids: nothing counts twice.',
  },
  internal: {
    meaning: 'A defect of the server; its log has it under the `x-request-id` of the answer.',
    remedy: 'Send the same again with the same ids, and report it.',
  },
} as const satisfies Record<ErrorCode, Help>;

/** Why the gateway itself answers with an error. */
const REFUSAL_HELP = {
  invalid_request: 'The request cannot be read, or names something that is not there.',
  unauthorized: 'No key, a wrong one, or one that was revoked.',
  insufficient_balance: 'The balance does not cover the request; add credit, or ask for less.',
  budget_exceeded: 'A budget does not cover the request and never resets; it has to be raised.',
  budget_resets: 'A budget does not cover the request; it resets after `retry-after`.',
  forbidden: 'The key lacks the scope `gateway`, has no user, or may not bill the organization.',
  not_found: 'The gateway has nothing at this path.',
  not_supported: 'The provider has this API, the gateway not; the message says why.',
  model_not_served: 'No upstream has this model.',
  method_not_allowed: 'The path exists under other methods; `allow` names them.',
  request_timeout: 'Nothing more of the body came for a minute.',
  conflict: 'The response is still being metered.',
  payload_too_large: 'The body exceeds 32 MiB.',
  unsupported_media_type: 'The body is compressed; send it as it is.',
  upgrade_required: 'The gateway speaks no WebSocket; send the request as POST.',
  too_many_requests: 'As many requests are in flight as may be at once; wait for `retry-after`.',
  upstream_not_configured: 'The operator has set no key for this provider.',
  upstream_unreachable: 'The provider cannot be reached.',
  upstream_timeout: 'The provider did not answer in time.',
  unavailable: 'Usage cannot be made durable now, or the server is stopping.',
  internal: 'A defect of the gateway; its log has it.',
} as const satisfies Record<RefusalReason, string>;

export function listErrors(): Facts['errors'] {
  return (Object.keys(ERROR_HELP) as ErrorCode[]).map((code) => ({
    code,
    status: HTTP_STATUS[code],
    ...ERROR_HELP[code],
  }));
}

export function listGatewayErrors(): Facts['gateway_errors'] {
  return (Object.keys(REFUSAL_HELP) as RefusalReason[]).map((reason) => {
    const { status, openaiType, anthropicType, code = reason } = REFUSAL_SHAPES[reason];
    return {
      reason,
      status,
      openai_type: openaiType,
      openai_code: code,
      anthropic_type: anthropicType,
      meaning: REFUSAL_HELP[reason],
    };
  });
}

/** For a response's description. */
export function describeError(code: ErrorCode): string {
  return `\`${code}\`: ${ERROR_HELP[code].meaning} ${ERROR_HELP[code].remedy}`;
}
