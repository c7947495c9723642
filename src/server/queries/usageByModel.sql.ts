import type { Statement } from '../../db/statement.js';

export interface ByModelRow {
  model: string | null;
  cost: string;
  requests: string;
  input_tokens: string | null;
  output_tokens: string | null;
  cache_write_tokens: string | null;
  cache_hit_tokens: string | null;
}

const PERSONAL = 'u.organization_id is null';
const ORGANIZATION = 'u.organization_id = $3::uuid';

function text(scope: string): string {
  return `/* usage.byModel */
select u.model,
  sum(u.cost)::text as cost,
  count(*)::text as requests,
  sum(u.input_tokens)::text as input_tokens,
  sum(u.output_tokens)::text as output_tokens,
  sum(u.cache_write_tokens)::text as cache_write_tokens,
  sum(u.cache_hit_tokens)::text as cache_hit_tokens
from microdollar_usage as u
where u.kilo_user_id = $1::text
  and u.created_at >= $2::date::timestamp at time zone 'UTC'
  and u.created_at < ($2::date + 1)::timestamp at time zone 'UTC'
  and ${scope}
group by u.model
order by sum(u.cost) desc, u.model`;
}

const PERSONAL_TEXT = text(PERSONAL);
const ORGANIZATION_TEXT = text(ORGANIZATION);

/** One UTC day of a user by model, in one scope (I7, I8). Raw usage, a day at most. */
export function usageByModelStatement(
  kiloUserId: string,
  date: string,
  organizationId: string | null,
): Statement {
  if (organizationId === null) {
    return {
      name: 'usage.byModel.personal',
      text: PERSONAL_TEXT,
      values: [kiloUserId, date],
    };
  }
  return {
    name: 'usage.byModel.organization',
    text: ORGANIZATION_TEXT,
    values: [kiloUserId, date, organizationId],
  };
}
