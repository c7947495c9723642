import { type Invariant, ofRows } from './invariant.js';

/**
 * I14, of what is stored: each statement returns one row per violation, `message`. What is left of grants is
 * recomputed in grantTruth.ts.
 */

/** Payers that have grants which expire, with what they acquired. */
const PAYERS = `
  select e.payer_scope, e.payer_id,
    coalesce(u.total_microdollars_acquired, o.total_microdollars_acquired) as acquired
  from (select distinct payer_scope, payer_id from credit_expiries) as e
  left join kilocode_users as u on e.payer_scope = 'user' and u.id = e.payer_id
  left join organizations as o on e.payer_scope = 'organization' and o.id::text = e.payer_id`;

const CREDITS = `
  select c.*, case when c.organization_id is null then 'user' else 'organization' end as payer_scope,
    coalesce(c.organization_id::text, c.kilo_user_id) as payer_id
  from credit_transactions as c`;

const LEDGER_SUM = `
select format('I14 %s=%s: acquired %s, but its ledger says %s', p.payer_scope, p.payer_id, p.acquired,
  l.amount) as message
from (${PAYERS}) as p
cross join lateral (
  select sum(c.amount_microdollars) as amount
  from (${CREDITS}) as c
  where c.payer_scope = p.payer_scope
    and c.payer_id = p.payer_id
) as l
where l.amount is distinct from p.acquired`;

/** A row of an expiry names a grant of its payer, whose time was over. */
const NAMED_GRANTS = `
select format('I14 %s %s names no grant of %s=%s that was due', c.kind, c.id, c.payer_scope, c.payer_id)
  as message
from (${CREDITS}) as c
left join (${CREDITS}) as g on g.id = c.grant_id
where c.grant_id is not null
  and (g.kind is distinct from 'credit'
    or (g.payer_scope, g.payer_id) is distinct from (c.payer_scope, c.payer_id)
    or g.expires_at is null
    or g.expires_at > c.created_at)`;

const FIRST_ROWS = `
select format('I14 grant %s: %s rows of kind expiry, %s', e.grant_id, f.rows,
  case when e.left_microdollars is null then 'not expired' else 'expired' end) as message
from credit_expiries as e
cross join lateral (
  select count(*) as rows
  from credit_transactions as c
  where c.grant_id = e.grant_id
    and c.kind = 'expiry'
) as f
where f.rows <> (e.left_microdollars is not null)::integer`;

/** left = late + expired + rest, none of them negative, and no rest once it is closed. */
const EXPIRED_PARTS = `
select format('I14 grant %s: left %s at its expiry, late %s, expired %s%s', e.grant_id,
  e.left_microdollars, e.late_microdollars, x.amount,
  case when e.closed_at is null then '' else ', closed' end) as message
from credit_expiries as e
cross join lateral (
  select coalesce(-sum(c.amount_microdollars), 0) as amount
  from credit_transactions as c
  where c.grant_id = e.grant_id
) as x
where x.amount < 0
  or x.amount + e.late_microdollars > coalesce(e.left_microdollars, 0)
  or (e.closed_at is not null and x.amount + e.late_microdollars <> e.left_microdollars)`;

const SAME_GRANT = `
select format('I14 grant %s: expires at %s of %s=%s, its credit says %s of %s=%s', e.grant_id,
  e.expires_at, e.payer_scope, e.payer_id, c.expires_at, c.payer_scope, c.payer_id) as message
from credit_expiries as e
full join (select * from (${CREDITS}) as c where c.expires_at is not null) as c on c.id = e.grant_id
where (e.expires_at, e.payer_scope, e.payer_id)
  is distinct from (c.expires_at, c.payer_scope, c.payer_id)`;

export const GRANT_INVARIANTS: readonly Invariant[] = [
  ...ofRows(['credit_expiries'], [LEDGER_SUM, FIRST_ROWS, EXPIRED_PARTS]),
  ...ofRows(['credit_transactions'], [NAMED_GRANTS]),
  ...ofRows(['credit_transactions', 'credit_expiries'], [SAME_GRANT]),
];

/** For grantTruth.ts: a payer's ledger of credits, what it used by the views, and its expiries. */
export const GRANT_SOURCES = `
select p.payer_scope, p.payer_id, p.acquired::text, (
    select b.microdollars_used::text from (
      select 'user' as scope, kilo_user_id as id, microdollars_used from kilocode_user_balances
      union all
      select 'organization', organization_id::text, microdollars_used from organization_balances
    ) as b
    where b.scope = p.payer_scope and b.id = p.payer_id
  ) as used, (
    select jsonb_agg(jsonb_build_object('id', c.id, 'kind', c.kind, 'grant_id', c.grant_id,
      'amount', c.amount_microdollars::text, 'used', c.used_microdollars::text)
      order by c.sequence)
    from (${CREDITS}) as c
    where c.payer_scope = p.payer_scope and c.payer_id = p.payer_id
  ) as entries, (
    select jsonb_agg(c.id order by c.expires_at nulls last, c.priority, c.created_at, c.sequence)
    from (${CREDITS}) as c
    where c.payer_scope = p.payer_scope and c.payer_id = p.payer_id
      and c.kind = 'credit' and c.amount_microdollars > 0
  ) as grant_order, (
    select jsonb_agg(jsonb_build_object('grant_id', e.grant_id, 'left', e.left_microdollars::text,
      'late', e.late_microdollars::text))
    from credit_expiries as e
    where e.payer_scope = p.payer_scope and e.payer_id = p.payer_id
  ) as expiries
from (${PAYERS}) as p`;
