import { instantText } from '../../db/instant.sql.js';
import type { Statement } from '../../db/statement.js';
import { isOpenUnpriced } from '../../schema/unpricedUsage.js';

export interface UnpricedRow {
  id: string;
  created_at: string;
  kilo_user_id: string;
  organization_id: string | null;
  provider: string | null;
  model: string | null;
  input_tokens: string | null;
  output_tokens: string | null;
  /** Of all that were looked at, on every row. */
  total: string;
}

/** Unpriced rows looked at; past it the total is "at least". */
export const MAX_UNPRICED = 10_000;

/**
 * Usage that was recorded without a price and that no later signed row has priced, newest first,
 * by the partial index on `unpriced`.
 */
export function unpricedUsageStatement(limit: number): Statement {
  return {
    name: 'operations.unpriced',
    text: `/* operations.unpriced */
with unpriced as materialized (
  select m.id, m.created_at
  from microdollar_usage_metadata as m
  where ${isOpenUnpriced('m')}
  order by m.created_at desc
  limit ${MAX_UNPRICED}
)
select u.id,
  ${instantText('u.created_at', 'MS')} as created_at,
  u.kilo_user_id, u.organization_id, u.provider, u.model, u.input_tokens, u.output_tokens,
  (select count(*) from unpriced) as total
from (select id from unpriced order by created_at desc limit $1::integer) as newest
join microdollar_usage as u on u.id = newest.id
order by u.created_at desc`,
    values: [limit],
  };
}
