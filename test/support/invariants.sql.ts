/**
 * Each statement returns one row per violation: `message`. They recompute from the sources (raw
 * usage, archived cost, Exa log) without using the ledger's own expressions, so a mistake in the
 * one is not repeated in the other.
 */

/** Sources of a usage day: raw rows and what was archived, per (user, organization, UTC day). */
const USAGE_SOURCES = `
  select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date as usage_date,
    cost::numeric as raw, 0::numeric as archived
  from microdollar_usage
  union all
  select kilo_user_id, organization_id, usage_date, 0, archived_cost_microdollars
  from microdollar_usage_daily`;

const KEY = (day: string) =>
  `format('user=%s organization=%s ${day}=%s', kilo_user_id,
    coalesce(organization_id::text, '-'), ${day})`;

/** I2, I7, I8: both directions at once; a side that has no row counts 0. */
const dailyMismatch = (reportedFrom: string, name: string) => `
select format('${name} %s: reported %s, expected %s (raw %s, archived %s), drift %s%s',
  ${KEY('usage_date')}, reported, raw + archived, raw, archived, reported - raw - archived,
  case when not has_reported then ', missing' when not has_source then ', orphan' else '' end)
  as message
from (
  select kilo_user_id, organization_id, usage_date, sum(reported) as reported, sum(raw) as raw,
    sum(archived) as archived, bool_or(is_reported) as has_reported,
    bool_or(not is_reported and (raw <> 0 or archived <> 0)) as has_source
  from (
    select kilo_user_id, organization_id, usage_date,
      total_cost_microdollars::numeric as reported, 0::numeric as raw, 0::numeric as archived,
      true as is_reported
    from ${reportedFrom}
    union all
    select kilo_user_id, organization_id, usage_date, 0, raw, archived, false
    from (${USAGE_SOURCES}) as sources
  ) as sides
  group by kilo_user_id, organization_id, usage_date
) as days
where reported <> raw + archived`;

/** I8: a key has one row; the unique indexes may be missing or broken. */
const duplicateKeys = (table: string, day: string) => `
select format('I8 ${table} %s: %s rows', ${KEY(day)}, count(*)) as message
from ${table}
group by kilo_user_id, organization_id, ${day}
having count(*) > 1`;

/** Exa per (user, organization, UTC month) from the log; the month's first allowance counts. */
const EXA_SOURCES = `
  select log.kilo_user_id, log.organization_id, log.month, log.total, log.requests,
    coalesce(
      (select e.free_allowance_microdollars
      from exa_monthly_usage as e
      where e.kilo_user_id = log.kilo_user_id
        and e.organization_id is not distinct from log.organization_id
        and e.month = log.month
      limit 1),
      (select p.free_allowance_microdollars
      from microdollar_usage_pending as p
      where p.kilo_user_id = log.kilo_user_id
        and p.organization_id is not distinct from log.organization_id
        and p.exa_month = log.month
      order by p.xid, p.created_at
      limit 1)) as allowance
  from (
    select kilo_user_id, organization_id,
      date_trunc('month', created_at at time zone 'UTC')::date as month,
      sum(cost)::numeric as total, count(*) filter (where cost <> 0) as requests
    from exa_usage_log
    group by 1, 2, 3
  ) as log`;

const EXA_CHARGED = `
  select kilo_user_id, organization_id, greatest(0, total - coalesce(allowance, 0)) as charged
  from (${EXA_SOURCES}) as months`;

const exaMismatch = (reportedFrom: string, name: string) => `
select format('${name} %s: reported cost %s charged %s requests %s, '
    || 'expected cost %s charged %s requests %s', ${KEY('month')},
  reported_total, reported_charged, reported_requests,
  total, greatest(0, total - allowance), requests) as message
from (
  select kilo_user_id, organization_id, month,
    sum(reported_total) as reported_total, sum(reported_charged) as reported_charged,
    sum(reported_requests) as reported_requests, sum(total) as total,
    sum(requests) as requests, coalesce(max(allowance), 0) as allowance
  from (
    select kilo_user_id, organization_id, month,
      total_cost_microdollars::numeric as reported_total,
      total_charged_microdollars::numeric as reported_charged,
      request_count as reported_requests, 0::numeric as total, 0::bigint as requests,
      null::numeric as allowance
    from ${reportedFrom}
    union all
    select kilo_user_id, organization_id, month, 0, 0, 0, total, requests, allowance
    from (${EXA_SOURCES}) as sources
  ) as sides
  group by kilo_user_id, organization_id, month
) as months
where reported_total <> total
  or reported_charged <> greatest(0, total - allowance)
  or reported_requests <> requests`;

interface Payer {
  name: string;
  table: string;
  view: string;
  viewId: string;
  balanceFunction: string;
  /** The payer of a usage, rollup, pending or Exa row; null when someone else pays. */
  payerOf: string;
}

const USER: Payer = {
  name: 'user',
  table: 'kilocode_users',
  view: 'kilocode_user_balances',
  viewId: 'kilo_user_id',
  balanceFunction: 'microdollar_user_balance',
  payerOf: 'case when organization_id is null then kilo_user_id end',
};

const ORGANIZATION: Payer = {
  name: 'organization',
  table: 'organizations',
  view: 'organization_balances',
  viewId: 'organization_id',
  balanceFunction: 'microdollar_organization_balance',
  payerOf: 'organization_id',
};

/** I5: view = opening + own usage + own archived cost + Exa charged. */
const balanceMismatch = (payer: Payer) => `
select format('I5 ${payer.name}=%s: reported %s, expected %s '
    || '(opening %s, usage %s, archived %s, exa charged %s), drift %s',
  id, coalesce(reported::text, 'nothing'), expected, opening, usage, archived, charged,
  coalesce(reported, 0) - expected) as message
from (
  select payers.id, balances.microdollars_used as reported,
    payers.opening_microdollars_used as opening,
    coalesce(usage.amount, 0) as usage, coalesce(archived.amount, 0) as archived,
    coalesce(exa.amount, 0) as charged,
    payers.opening_microdollars_used::numeric + coalesce(usage.amount, 0)
      + coalesce(archived.amount, 0) + coalesce(exa.amount, 0) as expected
  from ${payer.table} as payers
  left join ${payer.view} as balances on balances.${payer.viewId} = payers.id
  left join (
    select ${payer.payerOf} as id, sum(cost)::numeric as amount
    from microdollar_usage
    group by 1
  ) as usage on usage.id = payers.id
  left join (
    select ${payer.payerOf} as id, sum(archived_cost_microdollars)::numeric as amount
    from microdollar_usage_daily
    group by 1
  ) as archived on archived.id = payers.id
  left join (
    select ${payer.payerOf} as id, sum(charged) as amount
    from (${EXA_CHARGED}) as charges
    group by 1
  ) as exa on exa.id = payers.id
) as balances
where reported is distinct from expected`;

const functionMismatch = (payer: Payer) => `
select format('I5 ${payer.name}=%s: ${payer.balanceFunction} %s, ${payer.view} %s',
  ${payer.viewId}, coalesce(${payer.balanceFunction}(${payer.viewId})::text, 'null'),
  microdollars_used) as message
from ${payer.view}
where ${payer.balanceFunction}(${payer.viewId}) is distinct from microdollars_used`;

/** Cost that no balance reports: its payer does not exist. */
const unknownPayer = (payer: Payer, table: string, cost: string) => `
select format('I5 ${payer.name}=%s: no such ${payer.name}, but %s microdollars in ${table}',
  rows.id, sum(rows.cost)) as message
from (select ${payer.payerOf} as id, ${cost} as cost from ${table}) as rows
left join ${payer.table} as payers on payers.id = rows.id
where rows.cost <> 0
  and rows.id is not null
  and payers.id is null
group by rows.id`;

/** A pending row below the floor is skipped by the balance functions, and never folded. */
const belowFloor = (payer: Payer) => `
select format('pending_floor ${payer.name}=%s: pending row %s of %s microdollars, '
    || 'xid %s below floor %s', payers.id, pending.id, pending.cost, pending.xid,
  payers.pending_floor) as message
from (
  select ${payer.payerOf} as payer_id, id, xid, cost_microdollars as cost
  from microdollar_usage_pending
) as pending
join ${payer.table} as payers on payers.id = pending.payer_id
where pending.xid < payers.pending_floor`;

const METADATA_WITHOUT_USAGE = `
select format('I1 metadata id=%s: no usage row', m.id) as message
from microdollar_usage_metadata as m
where not exists (select from microdollar_usage as u where u.id = m.id)`;

const SHAPELESS_PENDING = `
select format('pending row %s: must have either usage_date or exa_month', id) as message
from microdollar_usage_pending
where (usage_date is null) = (exa_month is null)`;

const baseBalance = (payer: Payer) => `
select format('folded ${payer.name}=%s: row %s, view %s', payers.id, payers.microdollars_used,
  balances.microdollars_used) as message
from ${payer.table} as payers
left join ${payer.view} as balances on balances.${payer.viewId} = payers.id
where payers.microdollars_used is distinct from balances.microdollars_used`;

const PAYERS = [USER, ORGANIZATION];

export const INVARIANTS: readonly string[] = [
  dailyMismatch('microdollar_usage_daily_exact', 'I2'),
  duplicateKeys('microdollar_usage_daily', 'usage_date'),
  duplicateKeys('exa_monthly_usage', 'month'),
  exaMismatch('exa_monthly_usage_exact', 'Exa'),
  ...PAYERS.flatMap((payer) => [
    balanceMismatch(payer),
    functionMismatch(payer),
    unknownPayer(payer, 'microdollar_usage', 'cost'),
    unknownPayer(payer, 'microdollar_usage_pending', 'cost_microdollars'),
    unknownPayer(payer, 'exa_usage_log', 'cost'),
    belowFloor(payer),
  ]),
  METADATA_WITHOUT_USAGE,
  SHAPELESS_PENDING,
];

export const FOLDED: readonly string[] = [
  `select format('folded: %s pending rows', count(*)) as message
  from microdollar_usage_pending
  having count(*) > 0`,
  dailyMismatch('microdollar_usage_daily', 'folded daily'),
  exaMismatch('exa_monthly_usage', 'folded Exa'),
  ...PAYERS.map(baseBalance),
];
