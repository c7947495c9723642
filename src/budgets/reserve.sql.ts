import { plainArray, type Statement, textArray } from '../db/statement.js';
import { SLOTS } from '../schema/budgets.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';
import { counts, isCurrent, isOfKeys, isOfPayer, limitOf, lowered } from './matching.sql.js';
import type { HoldIntent } from './types.js';

/** One request for a hold; who pays is known beside it. */
export interface ReserveRequest {
  id: string;
  kilo_user_id: string;
  api_key_id: string | null;
  project_id: string | null;
  /** Microdollars, 0 or more. */
  amount: number;
  owner: string | null;
  /** From now. */
  expires_in_ms: number;
  /** The id was made for this request. */
  is_new?: boolean;
  intent?: HoldIntent | null;
}

export interface ReservedRow {
  /** Place of the request, from 1. */
  n: string;
  status:
    | 'granted'
    /** The hold is there already, or its usage is. */
    | 'duplicate'
    | 'conflict'
    | 'unknown_user'
    /** The payer's budgets are on another shard. */
    | 'elsewhere'
    /** A window, or the balance, is not opened yet. */
    | 'missing'
    /** A slot had enough, but those that reserve beside this were faster. */
    | 'busy'
    /** No slot of some window has enough: what came back is to be folded first. */
    | 'short';
  /** Microdollars held; null where nothing is. */
  amount: string | null;
  /** The least that is left of any window. */
  available: string | null;
  created_micros: string | null;
  window_ids: string[] | null;
}

/** Request `r` is of a key with a budget of another payer, whose window is not opened yet. */
const LACKS_OTHER = `exists (
      select from budget as o where o.is_other and o.window_id is null and o.api_key_id = r.api_key_id)`;

/**
 * Reserves for requests of one payer that came together; each is granted from all of its windows,
 * or from none. Waits for nobody: of a window it takes one slot that is free, whichever has enough
 * for most, and only what is there. $1 payer, $2.. the requests, $9 slot to begin with, $10 intents.
 *
 *   request   with what is known of its id already
 *   budget    hard budgets in force and their windows of now: found here, so that a new one is in
 *             force for the next request, and a limit that was lowered. Those of the keys bind whoever
 *             pays: another payer's (`is_other`) whose window is missing holds up its key alone
 *   demand    request x window; `running` sums what the window gives to it and those before it
 *   room      what the slots of a window have, as this snapshot shows them
 *   slot      one locked slot a window, of its locked version
 *   verdict   a request fits if every one of its windows has its running sum
 *   taken, held   slots by key (never by ctid, R13), and the holds. A slot is set to what its locked
 *                 version leaves. Taking off from the row that the update finds is the same, but the
 *                 server checks constraints of the version in the snapshot first: one that had less
 *                 before a fold filled it fails `remaining >= 0`, though what is written would not
 *   intended      the intents of those that have one
 *
 * A plain insert: an id that another transaction brought in meanwhile fails the statement, so
 * nothing is taken for it.
 */
function reserveText(scope: PayerScope): string {
  const organization = scope.name === 'user' ? 'null::uuid' : '$1::uuid';
  return `/* microdollar.reserve ${scope.name} */
with request as materialized (
  select r.n, r.id, r.kilo_user_id, r.api_key_id, r.project_id, r.amount, r.owner, r.expires_in_ms,
    r.intent,
    case when h.released_at is null then h.amount_microdollars else 0 end as held,
    coalesce(h.created_at, m.created_at) as held_at,
    case
      when h.id is not null then case
        when ${isOfPayer(scope, 'h')}
          and h.kilo_user_id = r.kilo_user_id
          and h.api_key_id is not distinct from r.api_key_id
          and h.project_id is not distinct from r.project_id
        then 'duplicate' else 'conflict' end
      when m.id is not null then case
        when m.kilo_user_id = r.kilo_user_id
          and ${scope.name === 'user' ? 'm.organization_id is null' : 'm.organization_id = $1::uuid'}
        then 'duplicate' else 'conflict' end
      when (select p.is_elsewhere from ${scope.payers} as p where p.id = $1::${scope.idType})
        then 'elsewhere'
      when (select u.id from kilocode_users as u where u.id = r.kilo_user_id) is null
        then 'unknown_user'
    end as known
  from unnest(
    $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::bigint[], $7::uuid[], $8::bigint[],
    $10::jsonb[]
  ) with ordinality as r(id, kilo_user_id, api_key_id, project_id, amount, owner, expires_in_ms,
    intent, n)
  left join lateral (
    select h.* from usage_holds as h where h.id = r.id limit 1
  ) as h on true
  left join lateral (
    select m.id, m.kilo_user_id, m.organization_id, m.created_at
    from microdollar_usage as m
    where m.id = r.id
    limit 1
  ) as m on true
), budget as materialized (
  select b.is_balance, b.kilo_user_id, b.api_key_id, b.project_id, b.is_other, w.id as window_id, w.carry
  from (
    select b.*, false as is_other
    from budgets as b
    where ${isOfPayer(scope, 'b')}
      and b.removed_at is null
    union all
    select b.*, true as is_other
    from budgets as b
    where ${isOfKeys(scope, 'b', '= any ($4::uuid[])')}
  ) as b
  left join lateral (
    select w.id, w.carry_microdollars
      + ${lowered(limitOf(scope, 'b'), 'w.limit_microdollars')} as carry
    from budget_windows as w
    where w.budget_id = b.id
      and ${isCurrent('w', 'b')}
    limit 1
  ) as w on true
  where b.is_hard
), lack as materialized (
  select not coalesce(bool_or(b.is_balance), false)
    or bool_or(b.window_id is null and not b.is_other) as is_any
  from budget as b
), demand as materialized (
  select r.n, r.amount, b.window_id, b.carry,
    sum(r.amount) over (partition by b.window_id order by r.n) as running
  from request as r
  join budget as b on ${counts('b', 'r')}
  where r.known is null
    and not (select l.is_any from lack as l)
    and not ${LACKS_OTHER}
), need as materialized (
  select d.window_id, min(d.amount) as smallest, sum(d.amount) as amount
  from demand as d
  where d.carry >= 0
  group by d.window_id
), room as materialized (
  select d.window_id, h.total, h.largest
  from (select distinct d.window_id from demand as d) as d
  cross join lateral (
    select sum(h.remaining_microdollars) as total, max(h.remaining_microdollars) as largest
    from headroom as h
    where h.window_id = d.window_id
  ) as h
), slot as materialized (
  select n.window_id, h.slot, h.remaining
  from need as n
  cross join lateral (
    select h.slot, h.remaining_microdollars as remaining
    from headroom as h
    where h.window_id = n.window_id
      and h.remaining_microdollars >= n.smallest
    order by least(h.remaining_microdollars, n.amount) desc, (h.slot + ${SLOTS} - $9::integer) % ${SLOTS}
    limit 1
    for no key update of h skip locked
  ) as h
), verdict as materialized (
  select d.n, array_agg(d.window_id) as window_ids,
    bool_and(s.slot is not null and d.running <= s.remaining) as fits,
    bool_and(d.carry >= 0 and r.largest >= d.amount) as has_room,
    min(r.total + d.carry - case when s.remaining >= d.running then d.amount else 0 end) as available
  from demand as d
  join room as r on r.window_id = d.window_id
  left join slot as s on s.window_id = d.window_id
  group by d.n
), taking as materialized (
  select d.window_id, s.slot, (min(s.remaining) - sum(d.amount))::bigint as remaining
  from demand as d
  join verdict as v on v.n = d.n and v.fits
  join slot as s on s.window_id = d.window_id
  group by d.window_id, s.slot
), taken as (
  update headroom as h
  set remaining_microdollars = t.remaining
  from taking as t
  where h.window_id = t.window_id
    and h.slot = t.slot
), held as (
  insert into usage_holds (id, payer_scope, payer_id, kilo_user_id, api_key_id, project_id,
    amount_microdollars, window_ids, owner, expires_at)
  select r.id, '${scope.name}', $1::text, r.kilo_user_id, r.api_key_id, r.project_id, r.amount,
    v.window_ids, r.owner, now() + r.expires_in_ms * interval '1 millisecond'
  from request as r
  join verdict as v on v.n = r.n and v.fits
  order by r.id
), intended as (
  insert into gateway_intents (id, owner, kilo_user_id, organization_id, api_key_id, api_kind,
    requested_model, input_tokens_estimate, max_tokens, streamed, created_at)
  select r.id, i.owner, r.kilo_user_id, ${organization}, i.api_key_id, i.api_kind,
    i.requested_model, i.input_tokens_estimate, i.max_tokens, i.streamed, now()
  from request as r
  join verdict as v on v.n = r.n and v.fits
  cross join lateral jsonb_to_record(r.intent) as i(owner uuid, api_key_id text, api_kind text,
    requested_model text, input_tokens_estimate bigint, max_tokens bigint, streamed boolean)
  where r.intent is not null
  order by r.id
)
select r.n,
  case
    when r.known is not null then r.known
    when (select l.is_any from lack as l) or ${LACKS_OTHER} then 'missing'
    when v.fits then 'granted'
    when v.has_room then 'busy'
    else 'short'
  end as status,
  case when r.known is not null then r.held when v.fits then r.amount end as amount,
  case
    when r.known = 'duplicate' then (
      select min(w.room)
      from (
        select b.carry + sum(h.remaining_microdollars) as room
        from budget as b
        join headroom as h on h.window_id = b.window_id
        where ${counts('b', 'r')}
        group by b.window_id, b.carry
      ) as w
    )
    else v.available
  end as available,
  v.window_ids,
  (extract(epoch from coalesce(r.held_at, now())) * 1000000)::bigint as created_micros
from request as r
left join verdict as v on v.n = r.n
order by r.n`;
}

const TEXTS = new Map(PAYER_SCOPES.map((scope) => [scope, reserveText(scope)]));

/** One row a request, in order. Ids must be unique. */
export function reserveStatement(
  scope: PayerScope,
  payerId: string,
  requests: readonly ReserveRequest[],
  slot: number,
): Statement {
  const column = <T>(read: (request: ReserveRequest) => T): T[] => requests.map(read);
  return {
    name: `microdollar_reserve_${scope.name}`,
    text: TEXTS.get(scope) ?? '',
    values: [
      payerId,
      plainArray(column((each) => each.id)),
      textArray(column((each) => each.kilo_user_id)),
      plainArray(column((each) => each.api_key_id)),
      textArray(column((each) => each.project_id)),
      plainArray(column((each) => each.amount)),
      plainArray(column((each) => each.owner)),
      plainArray(column((each) => each.expires_in_ms)),
      slot,
      textArray(column(({ intent }) => (intent ? JSON.stringify(intent) : null))),
    ],
  };
}
