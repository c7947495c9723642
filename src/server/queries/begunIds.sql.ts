import { plainArray, type Statement } from '../../db/statement.js';

export interface BegunRow {
  id: string;
  organization_id: string;
}

/** Which of these requests of user $1 their organization holds money for, or has paid. */
export function begunIdsStatement(kiloUserId: string, requests: readonly BegunRow[]): Statement {
  return {
    name: 'usage.begunIds',
    text: `/* usage.begunIds */
select r.id::text as id, r.organization_id::text as organization_id
from unnest($2::uuid[], $3::uuid[]) as r(id, organization_id)
where exists (
    select
    from usage_holds as h
    where h.id = r.id
      and h.payer_scope = 'organization'
      and h.payer_id = r.organization_id::text
      and h.kilo_user_id = $1::text
  )
  or exists (
    select
    from microdollar_usage as m
    where m.id = r.id
      and m.organization_id = r.organization_id
      and m.kilo_user_id = $1::text
  )`,
    values: [
      kiloUserId,
      plainArray(requests.map(({ id }) => id)),
      plainArray(requests.map((request) => request.organization_id)),
    ],
  };
}
