import type pg from 'pg';
import { z } from 'zod';
import { LedgerError } from '../../errors.js';
import { isUuid } from '../../ids.js';
import { parseInstant } from '../../instant.js';
import { toJsonInteger, toSafeInteger } from '../../money.js';
import { MAX_COST } from '../../record/event.js';
import { atRow } from '../../shards/atRow.js';
import { isOrganizationMember, readRole } from '../../shards/memberships.js';
import type { Principal } from '../auth.js';
import { type RequestDetailRow, requestStatement } from '../queries/request.sql.js';
import { MAX_SCANNED, type RequestFilters, type RequestRow } from '../queries/requests.sql.js';
import { readRows } from '../queries/rows.js';
import { resolveScope } from '../reportAccess.js';
import { readRequestPage } from '../requestPages.js';
import { inputOf, inputOrNothing, instant, uuid } from '../validation.js';
import type { TrpcContext } from './context.js';
import { procedureFor } from './procedure.js';
import { toJsonRequest } from './usage.js';

const MAX_PAGE = 100;
const DEFAULT_PAGE = 25;
/** A user's requests in other scopes that one page may pass. */
const OTHER_SCOPES = 1_000;
const cost = z.int().min(-MAX_COST).max(MAX_COST).nullish();

const listInput = z.strictObject({
  kilo_user_id: z.string().nullish(),
  organization_id: uuid.nullish(),
  member: z.string().nullish(),
  all_scopes: z.boolean().nullish(),
  api_key_id: uuid.nullish(),
  /** Instants; `from` inclusive. */
  from: instant.nullish(),
  until: instant.nullish(),
  model: z.string().max(512).nullish(),
  status: z.enum(['ok', 'error', 'refund']).nullish(),
  /** Microdollars, inclusive. */
  min_cost: cost,
  max_cost: cost,
  /** `next` of the page before. */
  cursor: z.string().max(100).nullish(),
  limit: z.int().min(1).max(MAX_PAGE).nullish(),
});

export const readRequests = procedureFor(
  'usage:read',
  'Requests of a scope, newest first, by pages; for whom `usage.report` is. A page ' +
    'looks through a bounded number of requests: one that ends with fewer than asked for ' +
    'says how far it went, and `next` goes on from there. `unpriced`: waits for a price, so that ' +
    'its `cost` is 0.',
)
  .input(inputOrNothing(listInput))
  .query(async ({ ctx, input }) => {
    const filters = await resolveFilters(ctx, ctx.principal, input);
    const limit = input.limit ?? DEFAULT_PAGE;
    const page = await readRequestPage(ctx.ledger, filters, limit, scannedBy(filters, limit));
    const { rows, next, stoppedAt, archivedBefore } = page;
    return {
      requests: rows.map(toRequest),
      next: next === null ? null : `${next.createdAt}/${next.id}`,
      /** ISO 8601: the look ended here, for it is bounded; null = it saw all, or filled the page. */
      lookedUntil: stoppedAt?.createdAt ?? null,
      /** ISO 8601: older requests are in archive files; their sums are in the reports. */
      archivedBefore,
    };
  });

async function resolveFilters(
  ctx: TrpcContext,
  principal: Principal,
  input: z.output<typeof listInput>,
): Promise<RequestFilters> {
  const { all_scopes, api_key_id, kilo_user_id, organization_id, member } = input;
  const scope = await resolveScope(
    ctx.ledger,
    principal,
    {
      kilo_user_id: kilo_user_id ?? null,
      organization_id: organization_id ?? null,
      member: member ?? null,
      api_key_id: api_key_id ?? null,
    },
    all_scopes ?? false,
  );
  return {
    kiloUserId: scope.kilo_user_id ?? scope.member ?? null,
    organizationId: scope.organization_id ?? null,
    organizationIds: scope.organization_id == null ? (scope.organization_ids ?? []) : null,
    from: parseInstant(input.from)?.text ?? null,
    until: parseInstant(input.until)?.text ?? null,
    model: input.model || null,
    apiKeyId: scope.api_key_id ?? null,
    status: input.status ?? null,
    minCostMicrodollars: input.min_cost ?? null,
    maxCostMicrodollars: input.max_cost ?? null,
    after: readCursor(input.cursor ?? null),
  };
}

/** Requests that one page looks through: more than it shows where some may be looked at in vain. */
function scannedBy(filters: RequestFilters, limit: number): number {
  const { kiloUserId, model, apiKeyId, status, minCostMicrodollars, maxCostMicrodollars } = filters;
  const chosen = [model, apiKeyId, status, minCostMicrodollars, maxCostMicrodollars];
  if (chosen.some((filter) => filter !== null)) return MAX_SCANNED;
  return kiloUserId === null ? limit + 1 : OTHER_SCOPES + limit + 1;
}

/** Of rows of other programs, as `instantText` has them: infinity, before Christ, past 9999. */
const ODD_INSTANT =
  /^(-?infinity|\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?[+-][\d:]{2,8}( BC)?)$/;

function readCursor(cursor: string | null): RequestFilters['after'] {
  if (cursor === null) return null;
  const [createdAt = '', id = ''] = cursor.split('/');
  const isInstant = instant.safeParse(createdAt).success || ODD_INSTANT.test(createdAt);
  if (isInstant && isUuid(id)) return { createdAt, id };
  throw new LedgerError('invalid_request', 'cursor must be the `next` of an answer before', {
    details: { field: 'cursor' },
  });
}

function toRequest(row: RequestRow & { id: string }) {
  const { scanned, last_created_at, last_micros, last_id, archived_before, ...request } = row;
  return toJsonRequest(request);
}

const detailInput = z.strictObject({ id: uuid });

/**
 * One request: tokens, cost and where its price comes from, attribution, corrections. For the user who
 * made it, while they are in its organization; for an owner of the organization; for service keys.
 * @throws LedgerError `not_found`, also for what is not the asker's to see
 */
export const readRequest = procedureFor(
  'usage:read',
  'One request: tokens, cost and where its price comes from, attribution, corrections. ' +
    'For the user who made it, while they are in its organization; for an owner of the ' +
    'organization; for service keys.',
)
  .input(inputOf(detailInput))
  .query(async ({ ctx, input }) => {
    const row = await atRow(ctx.ledger, 'microdollar_usage', input.id, ({ readPool }) =>
      findRequest(readPool, input.id),
    );
    if (!(await mayRead(ctx, ctx.principal, row))) throw unknownRequest();
    const optional = (amount: string | null) => (amount === null ? null : toJsonInteger(amount));
    const small = (n: number | string | null) => (n === null ? null : toSafeInteger(n));
    return {
      ...toJsonRequest(row),
      status_code: small(row.status_code),
      reasoning_tokens: small(row.reasoning_tokens),
      market_cost: optional(row.market_cost),
      reported_cost: optional(row.reported_cost),
      doubts: Array.isArray(row.doubts) ? row.doubts.map(String) : [],
      corrections: row.corrections.map((each) => ({ ...each, cost: toJsonInteger(each.cost) })),
    };
  });

async function findRequest(pool: pg.Pool, id: string): Promise<RequestDetailRow> {
  const [row] = await readRows<RequestDetailRow>(pool, requestStatement(id));
  if (row === undefined) throw unknownRequest();
  return row;
}

function unknownRequest(): LedgerError {
  return new LedgerError('not_found', 'there is no request with this id', {
    details: { field: 'id' },
  });
}

async function mayRead(
  { ledger }: TrpcContext,
  principal: Principal,
  row: RequestDetailRow,
): Promise<boolean> {
  const { kiloUserId, organizationId } = principal;
  if (kiloUserId === null) return organizationId === null || organizationId === row.organization_id;
  if (principal.scopes.has('admin')) return true;
  if (row.organization_id === null) return row.kilo_user_id === kiloUserId;
  if (row.kilo_user_id === kiloUserId) {
    return isOrganizationMember(ledger, row.organization_id, kiloUserId);
  }
  return (await readRole(ledger, row.organization_id, kiloUserId)) === 'owner';
}
