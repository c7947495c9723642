import { plainArray, type Statement } from '../../db/statement.js';

/** Which of these ids are those of requests in flight: the gateway records their usage itself. */
export function meteredIdsStatement(ids: readonly string[]): Statement {
  return {
    name: 'usage.meteredIds',
    text: `/* usage.meteredIds */
select i.id::text as id
from gateway_intents as i
where i.id = any ($1::uuid[])
union
select r.usage_id::text
from gateway_responses as r
where r.usage_id = any ($1::uuid[])
  and r.settled_at is null
union
select h.id::text
from usage_holds as h
where h.id = any ($1::uuid[])
  and h.owner is not null
  and h.released_at is null`,
    values: [plainArray(ids)],
  };
}
