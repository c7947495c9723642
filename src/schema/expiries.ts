/**
 * Whether expiries of its payer's grants need log row `row` no more: what was used after one that is due
 * is known once that is written, and late usage once a look at it has counted it.
 */
export function isKnownToExpiries(row: string): string {
  return `not exists (
      select
      from credit_expiries as e
      where e.payer_scope = case when ${row}.organization_id is null then 'user'
          else 'organization' end
        and e.payer_id = coalesce(${row}.organization_id::text, ${row}.kilo_user_id)
        and e.closed_at is null
        and e.expires_at <= now()
        and case when e.left_microdollars is null
          then ${row}.created_at >= e.expires_at and ${row}.position is not null
          else ${row}.created_at < e.expires_at
            and (abs(${row}.position) >= e.counted_below
              or abs(${row}.position) = any (e.counted_except)) end
    )`;
}
