import { ALERTS } from './alertInvariants.sql.js';
import { always, type Invariant, ofRows } from './invariant.js';

/**
 * Each statement returns one row per violation: `message`. They recompute from the sources (raw
 * usage, archived cost, Exa log, marks) without using the ledger's own expressions, so a mistake
 * in the one is not repeated in the other.
 */

interface LogTable {
  name: 'microdollar_usage' | 'exa_usage_log';
  /** Of SHARED. */
  rows: string;
  /** Columns of a payer: the mark and its exceptions. */
  mark: string;
  exceptions: string;
}

const USAGE: LogTable = {
  name: 'microdollar_usage',
  rows: 'usage_rows',
  mark: 'settled_below',
  exceptions: 'settled_except',
};
const EXA: LogTable = {
  name: 'exa_usage_log',
  rows: 'exa_rows',
  mark: 'exa_settled_below',
  exceptions: 'exa_settled_except',
};
const LOGS = [USAGE, EXA];
const EXA_TABLES = ['exa_usage_log', 'exa_monthly_usage'];

/** Every payer with its mark for a log; a person and an organization may have the same text. */
const marksOf = (log: LogTable) => `
  select 'person ' || id as payer, ${log.mark} as mark, ${log.exceptions} as exceptions
  from kilocode_users
  union all
  select 'organization ' || id::text, ${log.mark}, ${log.exceptions}
  from organizations`;

/**
 * Rows of a log, each with whether the counters have it: it names no transaction, or one that its
 * payer's mark has passed and that is no exception. Whose payer does not exist is not in them.
 */
const rowsOf = (log: LogTable) => `
  select r.id, r.kilo_user_id, r.organization_id, r.created_at, r.cost::numeric as cost, r.position,
    case
      when r.position is null then true
      when marks.payer is null then false
      else r.position < marks.mark
        and not exists (select from unnest(marks.exceptions) as e where e = r.position)
    end as is_settled
  from ${log.name} as r
  left join (${marksOf(log)}) as marks
    on marks.payer = coalesce('organization ' || r.organization_id::text,
      'person ' || r.kilo_user_id)`;

/** Sources of a usage day: raw rows and what was archived, per (user, organization, UTC day). */
const usageSources = (which: 'all' | 'settled') => `
  select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date as usage_date,
    cost as raw, 0::numeric as archived
  from ${USAGE.rows} as rows
  ${which === 'settled' ? 'where is_settled' : ''}
  union all
  select kilo_user_id, organization_id, usage_date, 0, archived_cost_microdollars
  from microdollar_usage_daily`;

const KEY = (day: string) =>
  `format('user=%s organization=%s ${day}=%s', kilo_user_id,
    coalesce(organization_id::text, '-'), ${day})`;

/** I2, I7, I8: both directions at once; a side that has no row counts 0. */
const dailyMismatch = (reportedFrom: string, which: 'all' | 'settled', name: string) => `
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
    from (${usageSources(which)}) as sources
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

/** Exa per (user, organization, UTC month) from the log; a month keeps the allowance of its row. */
const exaSources = (which: 'all' | 'settled') => `
  select log.kilo_user_id, log.organization_id, log.month, log.total, log.requests,
    coalesce(
      (select min(e.free_allowance_microdollars)
      from exa_monthly_usage as e
      where e.kilo_user_id = log.kilo_user_id
        and e.organization_id is not distinct from log.organization_id
        and e.month = log.month),
      (select s.exa_free_allowance_microdollars from ledger_settings as s)) as allowance
  from (
    select kilo_user_id, organization_id,
      date_trunc('month', created_at at time zone 'UTC')::date as month,
      sum(cost) as total, count(*) filter (where cost <> 0) as requests
    from ${EXA.rows} as rows
    ${which === 'settled' ? 'where is_settled' : ''}
    group by 1, 2, 3
  ) as log`;

const exaCharged = (which: 'all' | 'settled') => `
  select kilo_user_id, organization_id, greatest(0, total - allowance) as charged
  from exa_months_${which} as months`;

/** What several of them read, for the one statement that they are: planned and summed once, not for each. */
export const SHARED = `with usage_rows as materialized (${rowsOf(USAGE)}
), exa_rows as materialized (${rowsOf(EXA)}
), exa_months_all as materialized (${exaSources('all')}
), exa_months_settled as materialized (${exaSources('settled')}
), user_balances as materialized (
  select * from kilocode_user_balances
), organization_totals as materialized (
  select * from organization_balances
)
`;

const exaMismatch = (reportedFrom: string, which: 'all' | 'settled', name: string) => `
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
    from exa_months_${which} as sources
  ) as sides
  group by kilo_user_id, organization_id, month
) as months
where reported_total <> total
  or reported_charged <> greatest(0, total - allowance)
  or reported_requests <> requests`;

interface Payer {
  name: string;
  table: string;
  /** Of SHARED. */
  view: string;
  viewId: string;
  /** The payer of a usage, rollup or Exa row; null when someone else pays. */
  payerOf: string;
}

const USER: Payer = {
  name: 'user',
  table: 'kilocode_users',
  view: 'user_balances',
  viewId: 'kilo_user_id',
  payerOf: 'case when organization_id is null then kilo_user_id end',
};

const ORGANIZATION: Payer = {
  name: 'organization',
  table: 'organizations',
  view: 'organization_totals',
  viewId: 'organization_id',
  payerOf: 'organization_id',
};

/** I5: opening + own usage + own archived cost + Exa charged, against the view or the payer's row. */
const balanceMismatch = (
  payer: Payer,
  reportedFrom: 'balances' | 'payers',
  which: 'all' | 'settled',
  name: string,
) => `
select format('${name} ${payer.name}=%s: reported %s, expected %s '
    || '(opening %s, usage %s, archived %s, exa charged %s), drift %s',
  id, coalesce(reported::text, 'nothing'), expected, opening, usage, archived, charged,
  coalesce(reported, 0) - expected) as message
from (
  select payers.id,
    ${reportedFrom}.microdollars_used::numeric as reported,
    payers.opening_microdollars_used as opening,
    coalesce(usage.amount, 0) as usage, coalesce(archived.amount, 0) as archived,
    coalesce(exa.amount, 0) as charged,
    payers.opening_microdollars_used::numeric + coalesce(usage.amount, 0)
      + coalesce(archived.amount, 0) + coalesce(exa.amount, 0) as expected
  from ${payer.table} as payers
  left join ${payer.view} as balances on balances.${payer.viewId} = payers.id
  left join (
    select ${payer.payerOf} as id, sum(cost) as amount
    from ${USAGE.rows} as rows
    ${which === 'settled' ? 'where is_settled' : ''}
    group by 1
  ) as usage on usage.id = payers.id
  left join (
    select ${payer.payerOf} as id, sum(archived_cost_microdollars)::numeric as amount
    from microdollar_usage_daily
    group by 1
  ) as archived on archived.id = payers.id
  left join (
    select ${payer.payerOf} as id, sum(charged) as amount
    from (${exaCharged(which)}) as charges
    group by 1
  ) as exa on exa.id = payers.id
) as balances
where reported is distinct from expected`;

/** Cost that no balance reports: its payer does not exist. */
const unknownPayer = (payer: Payer, log: LogTable) => `
select format('I5 ${payer.name}=%s: no such ${payer.name}, but %s microdollars in ${log.name}',
  rows.id, sum(rows.cost)) as message
from (select ${payer.payerOf} as id, cost from ${log.name}) as rows
left join ${payer.table} as payers on payers.id = rows.id
where rows.cost <> 0
  and rows.id is not null
  and payers.id is null
group by rows.id`;

/** At or above the mark nothing is settled anyway; an unknown exception would hide rows. */
const wrongExceptions = (log: LogTable) => `
select format('mark of %s for ${log.name}: exception %s, mark %s', payer,
  coalesce(e::text, 'null'), mark) as message
from (${marksOf(log)}) as marks
cross join unnest(exceptions) as e
where e is null
  or e >= mark`;

/** No transaction has an id from here on yet: what it will write would count as settled. */
const marksAhead = (log: LogTable) => `
select format('mark of %s for ${log.name}: %s, the present is %s', payer, mark, present) as message
from (${marksOf(log)}) as marks
cross join (
  select generation * 17592186044416 + pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    as present
  from ledger_settings
) as now
where mark > present`;

/** Proofs skip everything below; an unsettled row there would be taken for a settled one. */
const belowLowWater = (log: LogTable) => `
select format('${log.name} %s: unsettled at %s, below settled_everywhere_below %s', rows.id,
  rows.position, settings.settled_everywhere_below) as message
from ${log.rows} as rows
cross join ledger_settings as settings
where not rows.is_settled
  and rows.position < settings.settled_everywhere_below`;

const METADATA_WITHOUT_USAGE = `
select format('I1 metadata id=%s: no usage row', m.id) as message
from microdollar_usage_metadata as m
where not exists (select from microdollar_usage as u where u.id = m.id)`;

/** I13: what a window may give is spent, owed or kept, in a slot, or held; nothing else, never twice. */
const WINDOWS = `
select format('I13 window %s of %s budget %s: limit %s, but %s (spent %s, carry %s, slots %s, held %s), '
  || 'off by %s', id, scope, budget_id, limit_microdollars, total, spent, carry, slots, held,
  total - limit_microdollars) as message
from (
  select *, spent + carry + slots + held as total
  from (
    select w.id, w.budget_id, b.scope, w.limit_microdollars, w.spent_microdollars as spent,
      w.carry_microdollars as carry,
      (select coalesce(sum(h.remaining_microdollars), 0) from headroom as h
        where h.window_id = w.id) as slots,
      (select coalesce(sum(h.amount_microdollars), 0) from usage_holds as h
        where w.id = any (h.window_ids)) as held
    from budget_windows as w
    left join budgets as b on b.id = w.budget_id
  ) as parts
) as windows
where total <> limit_microdollars`;

/** Usage rows with whether the mark of their payer's budgets has passed them. */
const BUDGET_ROWS = `
  select r.kilo_user_id, r.api_key_id, r.project_id, r.created_at, r.cost::numeric as cost,
    k.payer_scope, k.payer_id,
    r.position is null or (abs(r.position) < k.settled_below
      and not exists (select from unnest(k.settled_except) as e where e = abs(r.position)))
      as is_counted
  from microdollar_usage as r
  join rollup_marks as k
    on k.rollup = 'budgets'
    and k.payer_scope = case when r.organization_id is null then 'user' else 'organization' end
    and k.payer_id = coalesce(r.organization_id::text, r.kilo_user_id)`;

/**
 * I13: a window's spent is the usage that the mark of who paid has passed, less what was forwarded and
 * waits for the window's own fold, of budgets that are in force. What was
 * archived is known by payer, user and day: of windows of all time, unless they are of a key or project.
 */
const SPENT = `
select format('I13 window %s of %s budget %s: spent %s, but usage says %s', w.id, b.scope, b.id,
  w.spent_microdollars, usage.amount) as message
from budget_windows as w
join budgets as b on b.id = w.budget_id
cross join lateral (
  select coalesce(sum(r.cost), 0) - (
      select coalesce(sum(h.spent_microdollars), 0) from usage_holds as h
      where w.id = any (h.window_ids)
    ) + (
      select coalesce(sum(d.archived_cost_microdollars), 0)
      from microdollar_usage_daily as d
      where case when b.payer_scope = 'user'
          then d.organization_id is null and d.kilo_user_id = b.payer_id
          else d.organization_id::text = b.payer_id end
        and (b.kilo_user_id is null or d.kilo_user_id = b.kilo_user_id)
    ) as amount
  from (${BUDGET_ROWS}) as r
  where r.is_counted
    and (b.api_key_id is not null
      or (r.payer_scope = b.payer_scope and r.payer_id = b.payer_id))
    and (b.kilo_user_id is null or r.kilo_user_id = b.kilo_user_id)
    and (b.api_key_id is null or r.api_key_id = b.api_key_id)
    and (b.project_id is null or r.project_id = b.project_id)
    and r.created_at >= w.window_start
    and r.created_at < w.window_end
) as usage
where b.removed_at is null
  and not b.is_balance
  and w.spent_microdollars <> usage.amount
  and ((b.period = 'total' and b.api_key_id is null and b.project_id is null)
    or not exists (select from microdollar_usage_daily where archived_cost_microdollars <> 0))`;

/** I13: a hold was taken from windows that exist, of its own payer, or of its key. */
const HOLD_WINDOWS = `
select format('I13 hold %s: window %s is not of its payer', h.id, x.id) as message
from usage_holds as h
cross join unnest(h.window_ids) as x(id)
left join budget_windows as w on w.id = x.id
left join budgets as b on b.id = w.budget_id
where (b.payer_scope, b.payer_id) is distinct from (h.payer_scope, h.payer_id)
  and b.api_key_id is distinct from coalesce(h.api_key_id, gen_random_uuid())`;

const PAYERS = [USER, ORGANIZATION];

/** One look at a payer's table spares the planner the view of its balances. */
const ofPayers = (payer: Payer, text: string): Invariant => ({ text, of: [payer.table] });

/** The base rows hold what is settled, at every instant; once folded, everything. */
const baseMismatch = (which: 'all' | 'settled', name: string): Invariant[] => [
  always(dailyMismatch('microdollar_usage_daily', which, `${name} daily`)),
  ...ofRows(EXA_TABLES, [exaMismatch('exa_monthly_usage', which, `${name} Exa`)]),
  ...PAYERS.map((payer) =>
    ofPayers(payer, balanceMismatch(payer, 'payers', which, `${name} balance`)),
  ),
];

export const INVARIANTS: readonly Invariant[] = [
  always(dailyMismatch('microdollar_usage_daily_exact', 'all', 'I2')),
  always(duplicateKeys('microdollar_usage_daily', 'usage_date')),
  ...ofRows(EXA_TABLES, [
    duplicateKeys('exa_monthly_usage', 'month'),
    exaMismatch('exa_monthly_usage_exact', 'all', 'Exa'),
    ...PAYERS.map((payer) => unknownPayer(payer, EXA)),
  ]),
  ...PAYERS.map((payer) => ofPayers(payer, balanceMismatch(payer, 'balances', 'all', 'I5'))),
  ...PAYERS.map((payer) => always(unknownPayer(payer, USAGE))),
  ...LOGS.flatMap((log) => [wrongExceptions(log), marksAhead(log)].map(always)),
  always(belowLowWater(USAGE)),
  ...baseMismatch('settled', 'base'),
  ...ofRows(['microdollar_usage_metadata'], [METADATA_WITHOUT_USAGE]),
  ...ofRows(['budget_windows'], [WINDOWS, SPENT]),
  ...ofRows(['usage_holds'], [HOLD_WINDOWS]),
  ...ALERTS,
];

/**
 * Where every request is held and none costs more than its hold: what is spent, counted or not, and what
 * is held beside it are within the limit, of every window.
 */
export const NEVER_EXCEEDS: readonly Invariant[] = [
  always(`
select format('window %s of %s budget: limit %s, spent %s, not counted %s, held %s', w.id, b.scope,
  w.limit_microdollars, w.spent_microdollars, tail.amount, held.amount) as message
from budget_windows as w
join budgets as b on b.id = w.budget_id and b.removed_at is null and b.is_hard
cross join lateral (
  select coalesce(sum(r.cost), 0) as amount
  from (${BUDGET_ROWS}) as r
  where not r.is_counted
    and (b.api_key_id is not null
      or (r.payer_scope = b.payer_scope and r.payer_id = b.payer_id))
    and (b.kilo_user_id is null or r.kilo_user_id = b.kilo_user_id)
    and (b.api_key_id is null or r.api_key_id = b.api_key_id)
    and (b.project_id is null or r.project_id = b.project_id)
    and r.created_at >= w.window_start
    and r.created_at < w.window_end
) as tail
cross join lateral (
  select coalesce(sum(h.amount_microdollars), 0) as amount
  from usage_holds as h
  where w.id = any (h.window_ids)
    and not exists (select from microdollar_usage as m where m.id = h.id)
) as held
where w.spent_microdollars + tail.amount + held.amount > w.limit_microdollars`),
];

const unsettled = (log: LogTable) => `
select format('folded: %s unsettled rows in ${log.name}', count(*)) as message
from ${log.rows} as rows
where not is_settled
having count(*) > 0`;

export const FOLDED: readonly Invariant[] = [
  ...LOGS.flatMap((log) => ofRows([log.name], [unsettled(log)])),
  ...baseMismatch('all', 'folded'),
];
