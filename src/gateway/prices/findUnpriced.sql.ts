import type { Statement } from '../../db/statement.js';
import { isOpenIncomplete, isOpenUnpriced } from '../../schema/unpricedUsage.js';

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
  api_key_id: string | null;
  input_tokens: string;
  output_tokens: string;
  cache_write_tokens: string;
  cache_hit_tokens: string;
  reasoning_tokens: number | null;
  api_kind: string | null;
  usage_details: unknown;
  /** The usage row that is corrected: the row itself, or that which it corrects. */
  original_id: string;
  /** Of the next correction of it. */
  next_number: number;
  /** Of what was charged for it until now, microdollars. */
  charged: string;
}

/** `unpriced`: charged nothing yet. `incomplete`: charged without a part that had no price. */
export type LateKind = 'unpriced' | 'incomplete';

const IS_OPEN = { unpriced: isOpenUnpriced, incomplete: isOpenIncomplete } as const;

export interface UnpricedPosition {
  created_at: string;
  id: string;
}

/**
 * A page of usage without a price, or without one of a part, that no later row has priced, oldest
 * first, after a position; `unpriced` by its partial index.
 *
 * page: metadata of the rows, by (created_at, id)
 * corrected: what was corrected of each already; a refund takes a number, and is no charge
 */
export function findUnpricedStatement(
  kind: LateKind,
  after: UnpricedPosition,
  limit: number,
): Statement {
  return {
    name: `gateway.findUnpriced.${kind}`,
    text: `/* gateway.findUnpriced */
with page as materialized (
  select m.id, m.created_at, m.reasoning_tokens, m.api_kind_id, m.usage_details,
    m.lookup_values ->> 'api_kind' as pending_api_kind,
    coalesce(m.adjusts_usage_id, m.id) as original_id
  from microdollar_usage_metadata as m
  where ${IS_OPEN[kind]('m')}
    and (m.created_at, m.id) > ($1::timestamptz, $2::uuid)
  order by m.created_at, m.id
  limit $3::integer
)
select u.id,
  to_char(u.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  u.kilo_user_id, u.organization_id, u.provider, u.model, u.requested_model,
  u.inference_provider, u.project_id, u.api_key_id,
  u.input_tokens, u.output_tokens, u.cache_write_tokens, u.cache_hit_tokens,
  page.reasoning_tokens, page.usage_details, page.original_id,
  coalesce(k.api_kind, page.pending_api_kind) as api_kind,
  corrected.next_number,
  coalesce(original.cost, 0) + corrected.charged as charged
from page
join microdollar_usage as u on u.id = page.id
left join microdollar_usage as original on original.id = page.original_id
left join api_kind as k on k.api_kind_id = page.api_kind_id
cross join lateral (
  select greatest(coalesce(max(c.correction_number), 0), count(*))::integer + 1 as next_number,
    coalesce(sum(cu.cost) filter (where c.price_source is not null or c.unpriced), 0)::bigint
      as charged
  from microdollar_usage_metadata as c
  join microdollar_usage as cu on cu.id = c.id
  where c.adjusts_usage_id = page.original_id
) as corrected
order by page.created_at, page.id`,
    values: [after.created_at, after.id, limit],
  };
}
