import type { TRPC_ERROR_CODE_KEY } from '@trpc/server/rpc';
import type { Scope } from '../../accounts/scopes.js';
import { type ErrorCode, LedgerError } from '../../errors.js';
import { checkScope } from '../auth.js';
import { toErrorBody } from '../errors.js';
import type { TrpcContext } from './context.js';
import { initTRPC, TRPCError } from './library.js';

const TRPC_CODE = {
  invalid_event: 'BAD_REQUEST',
  invalid_request: 'BAD_REQUEST',
  unknown_user: 'NOT_FOUND',
  unknown_organization: 'NOT_FOUND',
  unknown_usage: 'NOT_FOUND',
  already_exists: 'CONFLICT',
  idempotency_conflict: 'CONFLICT',
  archived_period: 'PRECONDITION_FAILED',
  refund_exceeds_cost: 'CONFLICT',
  insufficient_balance: 'PAYMENT_REQUIRED',
  budget_exceeded: 'PAYMENT_REQUIRED',
  unauthorized: 'UNAUTHORIZED',
  forbidden: 'FORBIDDEN',
  not_found: 'NOT_FOUND',
  payload_too_large: 'PAYLOAD_TOO_LARGE',
  too_many_requests: 'TOO_MANY_REQUESTS',
  unproven_window: 'CONFLICT',
  out_of_range: 'UNPROCESSABLE_CONTENT',
  unavailable: 'SERVICE_UNAVAILABLE',
  internal: 'INTERNAL_SERVER_ERROR',
} as const satisfies Record<ErrorCode, TRPC_ERROR_CODE_KEY>;

/** What tRPC itself refuses (no such procedure, input that is not JSON, a batch too large). */
const LEDGER_CODE: Partial<Record<TRPC_ERROR_CODE_KEY, ErrorCode>> = {
  BAD_REQUEST: 'invalid_request',
  PARSE_ERROR: 'invalid_request',
  METHOD_NOT_SUPPORTED: 'invalid_request',
  UNSUPPORTED_MEDIA_TYPE: 'invalid_request',
  NOT_FOUND: 'not_found',
  PAYLOAD_TOO_LARGE: 'payload_too_large',
};

/** For the API reference. */
export interface ProcedureMeta {
  /** Absent: any valid key. */
  scope?: Scope;
  /** What it does, and for whom. */
  about?: string;
}

const t = initTRPC
  .context<TrpcContext>()
  .meta<ProcedureMeta>()
  .create({
    isDev: false,
    errorFormatter({ shape, error }) {
      const { cause } = error;
      if (cause instanceof LedgerError) {
        const { code, details } = toErrorBody(cause);
        return { ...shape, data: { ...shape.data, ledgerCode: code, details } };
      }
      const ledgerCode = LEDGER_CODE[error.code] ?? 'internal';
      const message = ledgerCode === 'internal' ? toErrorBody(cause).message : shape.message;
      return { ...shape, message, data: { ...shape.data, ledgerCode, details: undefined } };
    },
  });

export const { router } = t;

/** Our codes become tRPC's; anything else stays an internal error, told only to the log. */
const procedure = t.procedure.use(async ({ next }) => {
  const result = await next();
  if (result.ok) return result;
  const { cause } = result.error;
  if (!(cause instanceof LedgerError)) return result;
  throw new TRPCError({ code: TRPC_CODE[cause.code], message: cause.message, cause });
});

/** A procedure for any valid key; the context then has the principal. */
export const authenticated = procedure.use(async ({ ctx, next }) =>
  next({ ctx: { principal: await ctx.getPrincipal() } }),
);

/** A procedure for keys with this scope; `about` is its line in the API reference. */
export function procedureFor(scope: Scope, about: string) {
  return authenticated.meta({ scope, about }).use(async ({ ctx, next }) => {
    checkScope(ctx.principal, scope);
    return next();
  });
}
