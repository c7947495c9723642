import { instantMicros, instantText } from '../../db/instant.sql.js';
import type { Statement } from '../../db/statement.js';
import { waitsForPrice } from '../../schema/unpricedUsage.js';

/** Adopted rows may have no counts. */
export interface RecentRow {
  id: string;
  created_at: string;
  /** What rows of several shards are put in order by. */
  created_micros: string;
  organization_id: string | null;
  provider: string | null;
  model: string | null;
  requested_model: string | null;
  cost: string;
  input_tokens: string | null;
  output_tokens: string | null;
  cache_write_tokens: string | null;
  cache_hit_tokens: string | null;
  has_error: boolean | null;
  /** Waits for a price: `cost` is 0 until then. */
  unpriced: boolean;
}

/**
 * Requests for organizations that the user has left, which one look may pass. The rows are read as they are
 * asked for, so it costs nothing where there are none.
 */
const OTHERS = 20_000;

/**
 * A user's newest requests, by idx_microdollar_usage_kilo_user_id_created_at, read backwards. The
 * user is asked for as a range and sorted by, for then no other index gives the order: with `=` the
 * planner may walk created_at through everybody's requests until it has found enough of this user's.
 * @param asMember only personal ones, and those for organizations that the user is a member of now
 */
export function recentUsageStatement(
  kiloUserId: string,
  limit: number,
  asMember: boolean,
): Statement {
  return {
    name: 'usage.recent',
    text: `/* usage.recent */
select id,
  ${instantText('created_at')} as created_at, ${instantMicros('created_at')} as created_micros,
  organization_id, provider, model, requested_model, cost::text,
  input_tokens::text, output_tokens::text, cache_write_tokens::text, cache_hit_tokens::text,
  has_error, ${waitsForPrice('u.id')} as unpriced
from (
  select *
  from microdollar_usage as u
  where u.kilo_user_id between $1::text and $1::text
  order by u.kilo_user_id desc, u.created_at desc
  limit $2::integer + case when $3::boolean then ${OTHERS} else 0 end
) as u
where not $3::boolean
  or u.organization_id is null
  or exists (
    select
    from organization_memberships as m
    where m.kilo_user_id = $1::text
      and m.organization_id = u.organization_id
  )
order by u.kilo_user_id desc, u.created_at desc
limit $2::integer`,
    values: [kiloUserId, limit, asMember],
  };
}
