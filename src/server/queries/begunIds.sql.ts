import { plainArray, type Statement } from '../../db/statement.js';

export interface BegunRequest {
  id: string;
  organization_id: string;
}

export interface BegunRow extends BegunRequest {
  /** Microdollars that are held; null: recorded already. */
  most: string | null;
}

/**
 * Which of these requests of user $1 their organization holds money for by key $2, not the gateway and not
 * given back, or has paid by it.
 */
export function begunIdsStatement(
  kiloUserId: string,
  keyId: string,
  requests: readonly BegunRequest[],
): Statement {
  return {
    name: 'usage.begunIds',
    text: `/* usage.begunIds */
select h.id::text as id, h.payer_id as organization_id, h.amount_microdollars::text as most
from unnest($3::uuid[], $4::uuid[]) as r(id, organization_id)
join usage_holds as h on h.id = r.id
where h.payer_scope = 'organization'
  and h.payer_id = r.organization_id::text
  and h.kilo_user_id = $1::text
  and h.api_key_id = $2::uuid
  and h.owner is null
  and h.released_at is null
union all
select m.id::text, m.organization_id::text, null
from unnest($3::uuid[], $4::uuid[]) as r(id, organization_id)
join microdollar_usage as m on m.id = r.id
where m.organization_id = r.organization_id
  and m.kilo_user_id = $1::text
  and m.api_key_id = $2::uuid`,
    values: [
      kiloUserId,
      keyId,
      plainArray(requests.map(({ id }) => id)),
      plainArray(requests.map((request) => request.organization_id)),
    ],
  };
}
