import { plainArray, type Statement } from '../db/statement.js';

/**
 * A usage row and its corrections, in the order of their numbers, the row itself first. Those of a
 * user who was deleted have no metadata: they are found by the ids that they must have.
 *
 * Reading order: corrected (ids of all of them), then their rows
 */
export function readCorrectionsStatement(usageId: string, ownIds: readonly string[]): Statement {
  return {
    name: 'microdollar_read_corrections',
    text: `/* microdollar.readCorrections */
with corrected as materialized (
  select $1::uuid as id, 0 as place
  union
  select m.id, coalesce(m.correction_number, 0) + 1
  from microdollar_usage_metadata as m
  where m.adjusts_usage_id = $1::uuid
  union
  select own.id, own.place::integer + 1
  from unnest($2::uuid[]) with ordinality as own(id, place)
  where not exists (select from microdollar_usage_metadata as m where m.id = own.id)
)
select u.id, u.kilo_user_id, u.organization_id, u.cost, u.input_tokens, u.output_tokens,
  u.cache_write_tokens, u.cache_hit_tokens, u.provider, u.model, u.requested_model,
  u.inference_provider, u.project_id, u.api_key_id,
  to_char(u.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  m.estimated, m.unpriced, m.price_source, m.correction_number,
  m.usage_details ? 'late_usage' as is_late_usage,
  m.usage_details ->> 'stated_created_at' as stated_created_at,
  m.adjusts_usage_id, k.deleted_at is not null as is_of_deleted_user,
  u.created_at between now() and now() + interval '5 minutes' as is_ahead
from corrected as c
join microdollar_usage as u on u.id = c.id
left join microdollar_usage_metadata as m on m.id = u.id
left join kilocode_users as k on k.id = u.kilo_user_id
order by c.place, u.id`,
    values: [usageId, plainArray(ownIds)],
  };
}
