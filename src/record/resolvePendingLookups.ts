import type { Query } from '../db/query.js';
import type { Statement } from '../db/statement.js';

const ROWS_PER_STEP = 200;

interface ResolvedRow {
  resolved: string;
  seen: string;
  last_id: string | null;
}

/**
 * Gives ids to lookup values that a write had to store as text, because another session was
 * inserting them at that moment (I4). Values that are still being inserted stay for later, and
 * hold up no row behind them. Idempotent; a row scrubbed meanwhile (I11) is left alone. Returns
 * rows resolved.
 */
export async function resolvePendingLookups(query: Query): Promise<number> {
  let resolved = 0;
  for (let afterId: string | null = null; ; ) {
    const [row]: ResolvedRow[] = await query<ResolvedRow>(resolveStatement(afterId));
    resolved += Number(row?.resolved ?? 0);
    if (Number(row?.seen ?? 0) < ROWS_PER_STEP) return resolved;
    afterId = row?.last_id ?? null;
  }
}

function resolveStatement(afterId: string | null): Statement {
  return {
    name: 'microdollar_resolve_pending_lookups',
    text: `/* microdollar.resolvePendingLookups */
with waiting as materialized (
  select m.id, m.lookup_values
  from microdollar_usage_metadata as m
  where m.lookup_values is not null
    and m.id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
  order by m.id
  limit $1::integer
  for no key update skip locked
), resolved as materialized (
  select w.id, w.lookup_values,
    jsonb_object_agg(v.key || '_id', v.lookup_id) filter (where v.lookup_id is not null) as ids,
    jsonb_object_agg(v.key, v.value) filter (where v.lookup_id is null) as still_waiting
  from waiting as w
  cross join lateral (
    select e.key, e.value, microdollar_lookup_id(e.key, e.value) as lookup_id
    from jsonb_each_text(w.lookup_values) as e
  ) as v
  group by w.id, w.lookup_values
), updated as (
  update microdollar_usage_metadata as m
  set lookup_values = r.still_waiting,
    http_user_agent_id = coalesce((r.ids ->> 'http_user_agent_id')::integer, m.http_user_agent_id),
    http_ip_id = coalesce((r.ids ->> 'http_ip_id')::integer, m.http_ip_id),
    vercel_ip_city_id = coalesce((r.ids ->> 'vercel_ip_city_id')::integer, m.vercel_ip_city_id),
    vercel_ip_country_id
      = coalesce((r.ids ->> 'vercel_ip_country_id')::integer, m.vercel_ip_country_id),
    ja4_digest_id = coalesce((r.ids ->> 'ja4_digest_id')::integer, m.ja4_digest_id),
    system_prompt_prefix_id
      = coalesce((r.ids ->> 'system_prompt_prefix_id')::integer, m.system_prompt_prefix_id),
    finish_reason_id = coalesce((r.ids ->> 'finish_reason_id')::integer, m.finish_reason_id),
    editor_name_id = coalesce((r.ids ->> 'editor_name_id')::integer, m.editor_name_id),
    api_kind_id = coalesce((r.ids ->> 'api_kind_id')::integer, m.api_kind_id),
    feature_id = coalesce((r.ids ->> 'feature_id')::integer, m.feature_id),
    mode_id = coalesce((r.ids ->> 'mode_id')::integer, m.mode_id),
    auto_model_id = coalesce((r.ids ->> 'auto_model_id')::integer, m.auto_model_id)
  from resolved as r
  where m.id = r.id
    and r.ids is not null
  returning m.id
)
select (select count(*) from updated) as resolved,
  (select count(*) from waiting) as seen,
  (select id::text from waiting order by id desc limit 1) as last_id`,
    values: [ROWS_PER_STEP, afterId],
  };
}
