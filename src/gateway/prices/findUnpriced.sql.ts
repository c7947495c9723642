import type { Statement } from '../../db/statement.js';

export interface UnpricedRow {
  id: string;
  created_at: string;
  kilo_user_id: string;
  organization_id: string | null;
  provider: string | null;
  model: string | null;
  requested_model: string | null;
  inference_provider: string | null;
  project_id: string | null;
  input_tokens: string;
  output_tokens: string;
  cache_write_tokens: string;
  cache_hit_tokens: string;
  reasoning_tokens: number | null;
  api_kind: string | null;
}

export interface UnpricedPosition {
  created_at: string;
  id: string;
}

/**
 * A page of usage without a price that no later row has priced, oldest first, after a position; by
 * the partial index on `unpriced`. A refund of such a row (it names no price) does not price it.
 *
 * page: metadata of the rows, by (created_at, id)
 */
export function findUnpricedStatement(after: UnpricedPosition, limit: number): Statement {
  return {
    name: 'gateway.findUnpriced',
    text: `/* gateway.findUnpriced */
with page as materialized (
  select m.id, m.created_at, m.reasoning_tokens, m.api_kind_id,
    m.lookup_values ->> 'api_kind' as pending_api_kind
  from microdollar_usage_metadata as m
  where m.unpriced
    and (m.created_at, m.id) > ($1::timestamptz, $2::uuid)
    and not exists (
      select from microdollar_usage_metadata as a
      where a.adjusts_usage_id = m.id
        and a.price_source is not null
    )
  order by m.created_at, m.id
  limit $3::integer
)
select u.id,
  to_char(u.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  u.kilo_user_id, u.organization_id, u.provider, u.model, u.requested_model,
  u.inference_provider, u.project_id,
  u.input_tokens, u.output_tokens, u.cache_write_tokens, u.cache_hit_tokens,
  page.reasoning_tokens,
  coalesce(k.api_kind, page.pending_api_kind) as api_kind
from page
join microdollar_usage as u on u.id = page.id
left join api_kind as k on k.api_kind_id = page.api_kind_id
order by page.created_at, page.id`,
    values: [after.created_at, after.id, limit],
  };
}
