import { instantMicros, instantText } from '../../db/instant.sql.js';
import type { Statement } from '../../db/statement.js';
import { waitsForPrice } from '../../schema/unpricedUsage.js';
import type { RecentRow } from './recentUsage.sql.js';

export interface RequestFilters {
  /** Whose requests are looked through: one user's, or all of an organization. */
  kiloUserId: string | null;
  organizationId: string | null;
  /** Of a user: only personal ones and those in these; null = wherever. */
  organizationIds: readonly string[] | null;
  /** Instants, from inclusive. */
  from: string | null;
  until: string | null;
  /** Part of the answered or the requested model's name, any case. */
  model: string | null;
  apiKeyId: string | null;
  status: 'ok' | 'error' | 'refund' | null;
  minCostMicrodollars: number | null;
  maxCostMicrodollars: number | null;
  /** The last row of the page before. */
  after: { createdAt: string; id: string } | null;
}

export interface RequestRow extends Omit<RecentRow, 'id'> {
  /** Null where nothing was found; the columns below are those of the look itself. */
  id: string | null;
  kilo_user_id: string;
  project_id: string | null;
  api_key_id: string | null;
  scanned: string;
  last_created_at: string | null;
  last_micros: string | null;
  last_id: string | null;
  archived_before: string | null;
}

/** Requests looked through for one page: a filter that nothing fits ends there, and says so. */
export const MAX_SCANNED = 20_000;

const COLUMNS = `id, created_at, kilo_user_id, organization_id, provider, model,
    requested_model, project_id, api_key_id, cost, input_tokens, output_tokens, cache_write_tokens,
    cache_hit_tokens, has_error`;

/**
 * A page of requests, newest first, by the index of the user or of the organization on time, read
 * backwards. The payer is asked for as a range and sorted by, as in recentUsage.sql.ts.
 *
 *   scanned   the next rows of the payer, as many as one page looks through
 *   found     of these what fits the filters
 *   ended     how far the look went
 */
function text(payer: 'kilo_user_id' | 'organization_id', type: 'text' | 'uuid'): string {
  return `/* usage.requests */
with scanned as materialized (
  select ${COLUMNS}
  from microdollar_usage as u
  where u.${payer} between $1::${type} and $1::${type}
    and ($2::timestamptz is null or u.created_at >= $2::timestamptz)
    and ($3::timestamptz is null or u.created_at < $3::timestamptz)
    and ($4::timestamptz is null
      or (u.created_at <= $4::timestamptz and (u.created_at, u.id) < ($4::timestamptz, $5::uuid)))
  order by u.${payer} desc, u.created_at desc, u.id desc
  limit $6::integer
), found as (
  select *
  from scanned as s
  where ($7::uuid[] is null or s.organization_id is null or s.organization_id = any ($7::uuid[]))
    and ($8::uuid is null or s.organization_id = $8::uuid)
    and ($9::text is null
      or strpos(lower(s.model), lower($9::text)) > 0
      or strpos(lower(s.requested_model), lower($9::text)) > 0)
    and ($10::uuid is null or s.api_key_id = $10::uuid)
    and ($11::text is null
      or case when s.has_error then 'error' when s.cost < 0 then 'refund' else 'ok' end = $11::text)
    and ($12::bigint is null or s.cost >= $12::bigint)
    and ($13::bigint is null or s.cost <= $13::bigint)
  order by s.created_at desc, s.id desc
  limit $14::integer
), ended as (
  select count(*) over () as scanned, s.created_at, s.id
  from scanned as s
  order by s.created_at, s.id
  limit 1
)
select f.id, ${instantText('f.created_at')} as created_at,
  ${instantMicros('f.created_at')} as created_micros, f.kilo_user_id, f.organization_id,
  f.provider, f.model, f.requested_model, f.project_id, f.api_key_id, f.cost::text,
  f.input_tokens::text, f.output_tokens::text, f.cache_write_tokens::text,
  f.cache_hit_tokens::text, f.has_error, ${waitsForPrice('f.id')} as unpriced,
  coalesce(e.scanned, 0)::text as scanned, ${instantText('e.created_at')} as last_created_at,
  ${instantMicros('e.created_at')} as last_micros, e.id as last_id,
  ${instantText('s.archive_horizon')} as archived_before
from ledger_settings as s
left join ended as e on true
left join found as f on true
order by f.created_at desc, f.id desc`;
}

const BY_USER = text('kilo_user_id', 'text');
const BY_ORGANIZATION = text('organization_id', 'uuid');

/** At most `limit` rows, of at most `scanned` that are looked through. */
export function requestsStatement(
  filters: RequestFilters,
  limit: number,
  scanned: number,
): Statement {
  const { kiloUserId, organizationId, after } = filters;
  return {
    name: `usage.requests.${kiloUserId === null ? 'organization' : 'user'}`,
    text: kiloUserId === null ? BY_ORGANIZATION : BY_USER,
    values: [
      kiloUserId ?? organizationId,
      filters.from,
      filters.until,
      after?.createdAt ?? null,
      after?.id ?? null,
      scanned,
      filters.organizationIds,
      kiloUserId === null ? null : organizationId,
      filters.model,
      filters.apiKeyId,
      filters.status,
      filters.minCostMicrodollars,
      filters.maxCostMicrodollars,
      limit,
    ],
  };
}
