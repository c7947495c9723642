import { SNAPSHOT } from '../../counter/marks.sql.js';
import { UNKNOWN_GENERATION } from '../../counter/position.sql.js';
import type { Statement } from '../../db/statement.js';
import { isOfPayer, tailRows } from '../../schema/dimensionRollups.js';
import { PAYER_SCOPES, type PayerScope } from '../../schema/unsettled.js';

/** Column of `credit_transactions` that names payers of a scope. */
export const payerColumn = ({ name }: PayerScope): string =>
  name === 'user' ? 'kilo_user_id' : 'organization_id';

const balanceOf = (scope: PayerScope): string =>
  `${scope.name === 'user' ? 'kilocode_user_balances' : 'organization_balances'} as b
    where b.${payerColumn(scope)} = u.id`;

const micros = (instant: string): string => `(extract(epoch from ${instant}) * 1000000)::bigint`;

/** When the next grant of payer `payer` expires. */
export const nextExpiryOf = ({ name }: PayerScope, payer: string): string =>
  `(select min(e.expires_at) from credit_expiries as e
    where e.payer_scope = '${name}'
      and e.payer_id = ${payer}.id${name === 'user' ? '' : '::text'}
      and e.left_microdollars is null)`;

/** Whether payer $1 was given credit after an instant. */
export const hasCreditSince = (scope: PayerScope, instant: string): string =>
  `exists (
    select
    from credit_transactions as c
    where c.${payerColumn(scope)} = $1::${scope.idType}
      and c.kind = 'credit'
      and c.amount_microdollars > 0
      and c.created_at > ${instant}
  )`;

/** Amounts and instants as text: JSON numbers are exact up to 2^53 only. */
export interface GrantsRow {
  is_known_cluster: boolean;
  ended_below: string;
  running: string;
  now_micros: string;
  acquired: string;
  used: string;
  entries: StoredEntry[];
  expiries: StoredExpiry[];
}

export interface StoredEntry {
  id: string;
  kind: 'credit' | 'expiry' | 'expiry_correction';
  amount: string;
  grant_id: string | null;
  expires_micros: string | null;
  priority: number;
  created_micros: string;
  used: string | null;
  description: string | null;
}

export interface StoredExpiry {
  grant_id: string;
  expires_micros: string;
  left: string | null;
  late: string;
  late_before: string;
  is_closed: boolean;
  used_since: string;
  used_late: string;
  held: string;
}

/**
 * A payer's ledger of credits and its expiries, in one snapshot: usage is in what was used, or its hold is
 * open; never both, never neither.
 *
 *   s         the snapshot as positions: where late usage of what expires in it begins
 *   open      open holds
 *   used_since, used_late, held: see ExpiryState; asked only of what is not closed
 */
function readText(scope: PayerScope): string {
  const isOpen = 'e.closed_at is null and e.expires_at <= now()';
  return `/* accounts.readGrants ${scope.name} */
with s as materialized (
  ${SNAPSHOT}
), open as materialized (
  select h.amount_microdollars as amount, h.created_at
  from usage_holds as h
  where h.payer_scope = '${scope.name}'
    and h.payer_id = $1::text
    and h.window_ids <> '{}'
    and h.released_at is null
    and not exists (select from microdollar_usage as m where m.id = h.id)
)
select s.base < ${UNKNOWN_GENERATION} as is_known_cluster, s.ended_below::text,
  s.running::bigint[]::text as running, ${micros('now()')}::text as now_micros,
  u.total_microdollars_acquired::text as acquired,
  (select b.microdollars_used::text from ${balanceOf(scope)}) as used,
  (
    select coalesce(jsonb_agg(jsonb_build_object('id', c.id, 'kind', c.kind,
      'amount', c.amount_microdollars::text, 'grant_id', c.grant_id,
      'expires_micros', ${micros('c.expires_at')}::text, 'priority', c.priority,
      'created_micros', ${micros('c.created_at')}::text, 'used', c.used_microdollars::text,
      'description', c.description) order by c.sequence), '[]')
    from credit_transactions as c
    where c.${payerColumn(scope)} = u.id
  ) as entries,
  (
    select coalesce(jsonb_agg(jsonb_build_object('grant_id', e.grant_id,
      'expires_micros', ${micros('e.expires_at')}::text, 'left', e.left_microdollars::text,
      'late', e.late_microdollars::text, 'late_before', e.late_before_microdollars::text,
      'is_closed', e.closed_at is not null,
      'used_since', (case when ${isOpen} and e.left_microdollars is null then (
        select coalesce(sum(m.cost), 0)
        from microdollar_usage as m
        where ${isOfPayer(scope, 'm', 'u.id')}
          and m.created_at >= e.expires_at
          and m.position is not null
      ) else 0 end)::text,
      'used_late', (case when ${isOpen} and e.left_microdollars is not null then (
        select coalesce(sum(m.cost), 0)
        from (
          select u.id, e.counted_below as below, e.counted_except as except,
            array(select -x from unnest(e.counted_except) as x) as minus
        ) as k
        cross join lateral (
          ${tailRows(scope, 'm.cost, m.created_at', 'k')}
        ) as m
        where m.created_at < e.expires_at
      ) else 0 end)::text,
      'held', (case when ${isOpen} then (
        select coalesce(sum(o.amount), 0) from open as o where o.created_at < e.expires_at
      ) else 0 end)::text)), '[]')
    from credit_expiries as e
    where e.payer_scope = '${scope.name}'
      and e.payer_id = $1::text
  ) as expiries
from ${scope.payers} as u
cross join s
where u.id = $1::${scope.idType}`;
}

const READ = new Map(PAYER_SCOPES.map((scope) => [scope, readText(scope)]));

/** No row where there is no such payer. */
export function readGrantsStatement(scope: PayerScope, payerId: string): Statement {
  return {
    name: `accounts_read_grants_${scope.name}`,
    text: READ.get(scope) ?? '',
    values: [payerId],
  };
}

export interface LockedPayerRow {
  is_deleted: boolean;
  /** Its credits are on another shard. */
  is_elsewhere: boolean;
}

/** `waits`: as account operations do; else only where the row is free. No row: no payer, or not free. */
export function lockPayerStatement(scope: PayerScope, payerId: string, waits: boolean): Statement {
  const isDeleted = scope.name === 'user' ? 'u.deleted_at is not null' : 'false';
  return {
    name: `accounts_lock_payer_${scope.name}${waits ? '' : '_free'}`,
    text: `/* accounts.lockPayer ${scope.name} */
select ${isDeleted} as is_deleted, u.is_elsewhere
from ${scope.payers} as u
where u.id = $1::${scope.idType}
for no key update of u${waits ? '' : ' skip locked'}`,
    values: [payerId],
  };
}

export interface ExpiryStepValues {
  grantId: string;
  /** Microdollars; null: it has expired before, and stays as it is. */
  left: bigint | null;
  used: bigint | null;
  lateBefore: bigint;
  /** Leaves the balance. */
  amount: bigint;
  late: bigint;
  lookInMs: number;
  isClosed: boolean;
}

/**
 * Writes one step of an expiry, under the lock of the payer's row: the row that names the grant (the first
 * also where nothing leaves), what is known of the expiry, and the payer's total. The mark moves on with each
 * step: late usage that was counted may be archived (schema/expiries.ts).
 */
export function writeExpiryStatement(
  scope: PayerScope,
  payerId: string,
  step: ExpiryStepValues,
  mark: { below: string; except: string },
): Statement {
  const column = payerColumn(scope);
  return {
    name: `accounts_write_expiry_${scope.name}`,
    text: `/* accounts.writeExpiry ${scope.name} */
with written as (
  insert into credit_transactions (${column}, kind, grant_id, amount_microdollars, description,
    used_microdollars)
  select $1::${scope.idType}, case when $3::bigint is null then 'expiry_correction' else 'expiry' end,
    $2::uuid, -$6::bigint, c.description, $4::numeric
  from credit_transactions as c
  where c.id = $2::uuid
    and ($3::bigint is not null or $6::bigint <> 0)
), noted as (
  update credit_expiries as e
  set left_microdollars = coalesce(e.left_microdollars, $3::bigint),
    late_before_microdollars = $5::numeric,
    counted_below = $10::bigint,
    counted_except = $11::bigint[],
    late_microdollars = $7::bigint,
    look_at = now() + $8::bigint * interval '1 millisecond',
    closed_at = case when $9::boolean then now() end
  where e.grant_id = $2::uuid
)
update ${scope.payers} as u
set total_microdollars_acquired = u.total_microdollars_acquired - $6::bigint,
  updated_at = now()
where u.id = $1::${scope.idType}
  and $6::bigint <> 0`,
    values: [
      payerId,
      step.grantId,
      step.left,
      step.used,
      step.lateBefore,
      step.amount,
      step.late,
      Math.round(step.lookInMs),
      step.isClosed,
      mark.below,
      mark.except,
    ].map((value) => (typeof value === 'bigint' ? String(value) : value)),
  };
}

export interface DuePayersRow {
  /** Null: nobody is due. */
  payer_scope: PayerScope['name'] | null;
  payer_id: string | null;
  /** Until the next expiry, or look at one, below 0 where it has come by now; null: there is none. */
  next_in_ms: number | null;
}

/** Payers with something to do, those that wait longest first, and when there is more. $1 most payers. */
export function duePayersStatement(limit: number): Statement {
  return {
    name: 'accounts_due_expiries',
    text: `/* accounts.dueExpiries */
with due as materialized (
  select e.payer_scope, e.payer_id, min(e.look_at) as since
  from credit_expiries as e
  where e.closed_at is null
    and e.look_at <= now()
  group by e.payer_scope, e.payer_id
  order by since
  limit $1::integer
)
select d.payer_scope, d.payer_id, (
    select (extract(epoch from min(e.look_at) - clock_timestamp()) * 1000)::float8
    from credit_expiries as e
    where e.closed_at is null
      and e.look_at > now()
  ) as next_in_ms
from (select) as one
left join due as d on true
order by d.since`,
    values: [limit],
  };
}

/** Due expiries of a payer that cannot be had now are looked at later. Waits for nobody. */
export function deferExpiriesStatement(
  scope: PayerScope,
  payerId: string,
  byMs: number,
): Statement {
  return {
    name: 'accounts_defer_expiries',
    text: `/* accounts.deferExpiries */
update credit_expiries as e
set look_at = now() + $3::integer * interval '1 millisecond'
where e.grant_id = any (array(
    select d.grant_id
    from credit_expiries as d
    where d.payer_scope = $1::text
      and d.payer_id = $2::text
      and d.closed_at is null
      and d.look_at <= now()
    for no key update of d skip locked
  ))`,
    values: [scope.name, payerId, byMs],
  };
}
