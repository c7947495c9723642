import { ORGANIZATION_NAME } from '../../accounts/listAccounts.js';
import { instantText } from '../../db/instant.sql.js';
import type { Statement } from '../../db/statement.js';
import { isOpenUnpriced } from '../../schema/unpricedUsage.js';
import type { RecentRow } from './recentUsage.sql.js';

export interface RequestDetailRow extends RecentRow {
  kilo_user_id: string;
  inference_provider: string | null;
  project_id: string | null;
  api_key_id: string | null;
  organization_name: string | null;
  key_name: string | null;
  key_prefix: string | null;
  end_user: string | null;
  session_id: string | null;
  tags: string[] | null;
  message_id: string | null;
  /** Text where an adopted table is wider. */
  status_code: number | string | null;
  latency: number | null;
  generation_time: number | null;
  /** The same. */
  reasoning_tokens: number | string | null;
  streamed: boolean | null;
  cancelled: boolean | null;
  is_byok: boolean | null;
  is_free: boolean | null;
  estimated: string | null;
  price_source: string | null;
  price_version: string | null;
  market_cost: string | null;
  reported_cost: string | null;
  doubts: unknown;
  adjusts_usage_id: string | null;
  finish_reason: string | null;
  editor_name: string | null;
  api_kind: string | null;
  feature: string | null;
  /** Signed rows that correct this one, in order. */
  corrections: { id: string; created_at: string; cost: string; price_source: string | null }[];
}

const LOOKUPS = ['finish_reason', 'editor_name', 'api_kind', 'feature'];

const TEXT = `/* usage.request */
select u.id, ${instantText('u.created_at')} as created_at, u.kilo_user_id, u.organization_id,
  u.provider, u.inference_provider, u.model, u.requested_model, u.project_id, u.api_key_id,
  u.cost::text, u.input_tokens::text, u.output_tokens::text, u.cache_write_tokens::text,
  u.cache_hit_tokens::text, u.has_error,
  ${ORGANIZATION_NAME} as organization_name, k.name as key_name, k.key_prefix,
  m.end_user, m.session_id, m.tags, m.message_id, m.status_code, m.latency, m.generation_time,
  m.reasoning_tokens, m.streamed, m.cancelled, m.is_byok, m.is_free, m.estimated,
  coalesce(${isOpenUnpriced('m')}, false) as unpriced,
  m.price_source, m.price_version, m.market_cost::text, m.reported_cost::text,
  m.usage_details -> 'doubts' as doubts, m.adjusts_usage_id,
  ${LOOKUPS.map(
    (name) => `coalesce(l_${name}.${name}, m.lookup_values ->> '${name}') as ${name}`,
  ).join(',\n  ')},
  (
    select coalesce(json_agg(json_build_object('id', c.id,
      'created_at', ${instantText('c.created_at')}, 'cost', c.cost::text,
      'price_source', a.price_source) order by a.correction_number), '[]'::json)
    from microdollar_usage_metadata as a
    join microdollar_usage as c on c.id = a.id
    where a.adjusts_usage_id = u.id
  ) as corrections
from microdollar_usage as u
left join microdollar_usage_metadata as m on m.id = u.id
left join organizations as o on o.id = u.organization_id
left join api_keys as k on k.id = u.api_key_id
${LOOKUPS.map(
  (name) => `left join ${name} as l_${name} on l_${name}.${name}_id = m.${name}_id`,
).join('\n')}
where u.id = $1::uuid`;

/** One request with its metadata, key, organization and corrections. */
export function requestStatement(id: string): Statement {
  return { name: 'usage.request', text: TEXT, values: [id] };
}
