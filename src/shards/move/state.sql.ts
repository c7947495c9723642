import { SNAPSHOT } from '../../counter/marks.sql.js';
import { nameOfText, type Statement } from '../../db/statement.js';
import { FORWARDED } from '../../schema/budgets.js';
import { tailRows } from '../../schema/dimensionRollups.js';
import type { PayerScope } from '../../schema/unsettled.js';
import { writtenValue } from './absentValues.js';
import { type Columns, listOf, quoted, quotedList } from './columns.js';
import { isNamed, isPaidBy, OWN_OF_PAYER, STATE_TABLES } from './payerTables.js';

/** Locks the payer and its marks: no fold, expiry or credit of it is under way, or begins. */
export function lockPayerStatements(
  scope: PayerScope,
  id: string,
): readonly [payer: Statement, marks: Statement] {
  return [
    {
      name: `shards_lock_payer_${scope.name}`,
      text: `/* shards.lockPayer */
select u.is_elsewhere
from ${scope.payers} as u
where u.id = $1::${scope.idType}
for update of u`,
      values: [id],
    },
    {
      name: `shards_lock_marks_${scope.name}`,
      text: `/* shards.lockMarks */
select k.rollup
from rollup_marks as k
where k.payer_scope = '${scope.name}'
  and k.payer_id = $1::text
order by k.rollup
for update of k`,
      values: [id],
    },
  ];
}

/**
 * A hold by a key that another payer limits names that payer's window too. Where one of the two goes, the
 * hold lets go of the window: what it took is left for the window's next fold, as a fold forwards it
 * (budgets/fold.sql.ts). Of the payer's holds and windows of others, and of others' holds and windows of
 * the payer, which takes along what is left for them. Before the state is read, in its transaction; the
 * holds stay locked, so that nobody ends or extends one meanwhile.
 */
export function forwardHeldStatement(scope: PayerScope, id: string): Statement {
  return {
    name: `shards_forward_held_${scope.name}`,
    text: `/* shards.forwardHeld */
with held as materialized (
  select h.id, h.payer_scope, h.payer_id, h.amount_microdollars as amount, h.window_ids
  from usage_holds as h
  where h.window_ids <> '{}'
    and ((${isNamed(scope, 'h')})
      or h.api_key_id = any (array(select b.api_key_id from budgets as b where ${isNamed(scope, 'b')})))
  for update of h
), lent as materialized (
  select h.id, h.amount, w.id as window_id, b.payer_scope, b.payer_id, b.api_key_id
  from held as h
  cross join unnest(h.window_ids) as x(window_id)
  join budget_windows as w on w.id = x.window_id
  join budgets as b on b.id = w.budget_id
  where (b.payer_scope, b.payer_id) is distinct from (h.payer_scope, h.payer_id)
    and ((${isNamed(scope, 'h')}) or (${isNamed(scope, 'b')}))
), let_go as (
  update usage_holds as h
  set window_ids = array(
    select x.window_id
    from unnest(h.window_ids) as x(window_id)
    where x.window_id not in (select l.window_id from lent as l where l.id = h.id)
  )
  where h.id in (select l.id from lent as l)
)
insert into usage_holds (id, payer_scope, payer_id, kilo_user_id, api_key_id, amount_microdollars,
  window_ids, expires_at, released_at)
select gen_random_uuid(), l.payer_scope, l.payer_id, '', l.api_key_id, sum(l.amount),
  array[l.window_id], ${FORWARDED}, now()
from lent as l
group by l.payer_scope, l.payer_id, l.api_key_id, l.window_id`,
    values: [id],
  };
}

/** Keys that budgets of the payer limit, whoever pays for them. */
export function findLimitedKeysStatement(scope: PayerScope, id: string): Statement {
  return {
    name: `shards_limited_keys_${scope.name}`,
    text: `/* shards.findLimitedKeys */
select distinct b.api_key_id as id
from budgets as b
where ${isNamed(scope, 'b')}
  and b.api_key_id is not null`,
    values: [id],
  };
}

export interface PayerStateRow {
  /** Rows by table, JSON text. */
  state: string;
  /** Users that the state names. */
  users: string;
  payer: string;
  /** Daily amounts of archived usage, JSON text. */
  archived_days: string;
  /** The budgets have counted all usage, and given back what its holds took. */
  is_budgeted: boolean;
  /** Webhooks of everybody with deliveries to come. */
  shared_urls: string[];
}

/** Everything of a payer but its logs, in one snapshot. One row; none of a payer that is not. */
export function readStateStatement(scope: PayerScope, id: string): Statement {
  const tables = STATE_TABLES.flatMap(({ name, isOf, order, also }) => {
    const condition = isOf(scope);
    if (condition === null) return [];
    const row = also ? `to_jsonb(r) || ${also(scope)}` : 'to_jsonb(r)';
    return `'${name}', (
    select coalesce(jsonb_agg(${row}${order ? ` order by ${order}` : ''}), '[]')
    from ${name} as r
    where ${condition}
  )`;
  });
  return {
    name: `shards_read_state_${scope.name}`,
    text: `/* shards.readState */
with state as materialized (
  select jsonb_build_object(${tables.join(',\n  ')}) as state
)
select s.state::text as state, to_jsonb(u)::text as payer,
  (
    select coalesce(jsonb_agg(jsonb_build_object('id', k.id, 'deleted_at', k.deleted_at)), '[]')
    from kilocode_users as k
    where k.id in (
      select r.value ->> 'kilo_user_id'
      from jsonb_each(s.state) as t
      cross join jsonb_array_elements(t.value) as r
    )
  )::text as users,
  (
    select coalesce(jsonb_agg(jsonb_build_object('kilo_user_id', d.kilo_user_id,
      'organization_id', d.organization_id, 'usage_date', d.usage_date,
      'archived_cost_microdollars', d.archived_cost_microdollars)), '[]')
    from microdollar_usage_daily as d
    where ${isPaidBy(scope, 'd')}
      and d.archived_cost_microdollars <> 0
  )::text as archived_days,
  not exists (
    select
    from (
      select k.payer_id::${scope.idType} as id, k.settled_below as below, k.settled_except as except,
        array(select -e from unnest(k.settled_except) as e) as minus
      from rollup_marks as k
      where k.rollup = 'budgets'
        and k.payer_scope = '${scope.name}'
        and k.payer_id = $1::text
    ) as k
    cross join lateral (
      ${tailRows(scope, 'm.id', 'k')}
    ) as m
  ) and not exists (
    select
    from usage_holds as h
    where h.payer_scope = '${scope.name}'
      and h.payer_id = $1::text
      and h.window_ids <> '{}'
      and exists (select from microdollar_usage as m where m.id = h.id)
  ) as is_budgeted,
  array(
    select distinct r ->> 'shared_url'
    from jsonb_array_elements(s.state -> 'usage_alert_deliveries') as r
    where r ->> 'shared_url' is not null
      and r ->> 'delivered_at' is null
      and r ->> 'dead_at' is null
  ) as shared_urls
from ${scope.payers} as u
cross join state as s
where u.id = $1::${scope.idType}`,
    values: [id],
  };
}

/** Takes the state away, in an order that foreign keys allow. */
export function deleteStateStatements(scope: PayerScope, id: string): Statement[] {
  return STATE_TABLES.toReversed().flatMap(({ name, isOf }) => {
    const condition = isOf(scope);
    if (condition === null) return [];
    return {
      name: `shards_delete_${name}_${scope.name}`,
      text: `/* shards.deleteState */
delete from ${name} as r
where ${condition}`,
      values: [id],
    };
  });
}

/** With its credits gone: what the payer acquired is the sum of them (I14). */
export function clearAcquiredStatement(scope: PayerScope, id: string): Statement {
  return {
    name: `shards_clear_acquired_${scope.name}`,
    text: `/* shards.clearAcquired */
update ${scope.payers} as u
set total_microdollars_acquired = 0
where u.id = $1::${scope.idType}`,
    values: [id],
  };
}

/** The present as a mark: what has ended is passed, what is in progress is an exception. */
export const PRESENT_MARK: Statement = {
  name: 'shards_present_mark',
  text: `/* shards.presentMark */
select s.ended_below::text as below, s.running::text as except
from (
  ${SNAPSHOT}
) as s`,
  values: [],
};

export interface PresentMark {
  below: string;
  except: string;
}

/** Ids of the windows that were written, by budget and start: a payer of some years has thousands. */
const WINDOW_IDS = `window_ids as materialized (
  select jsonb_object_agg(concat_ws(' ', w.budget_id, w.window_start), w.id) as ids
  from window_written as w
)`;

const writtenWindow = (budgetId: string, windowStart: string): string =>
  `((select x.ids from window_ids as x) ->> concat_ws(' ', ${budgetId}, ${windowStart}))::bigint`;

/** Written otherwise than they were read; `r` is the row, `j` its JSON. */
const VALUES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  credit_expiries: {
    counted_below: 'case when r.counted_below is not null then $2::bigint end',
    counted_except: `case when r.counted_below is null then '{}' else $3::bigint[] || array(
      select distinct abs(m.position)
      from microdollar_usage as m
      where m.id in (select x.id::uuid from jsonb_array_elements_text(j.row -> 'late_ids') as x(id))
    ) end`,
  },
  rollup_marks: { settled_below: '$2::bigint', settled_except: '$3::bigint[]' },
  headroom: {
    window_id: writtenWindow(
      `(j.row ->> 'budget_id')::uuid`,
      `(j.row ->> 'window_start')::timestamptz`,
    ),
  },
  usage_holds: {
    window_ids: `array(
      select w.id
      from jsonb_to_recordset(j.row -> 'windows') as x(budget_id uuid, window_start timestamptz)
      cross join lateral (
        select ${writtenWindow('x.budget_id', 'x.window_start')} as id
      ) as w
      where w.id is not null
    )`,
  },
  usage_alert_deliveries: {
    // Nobody has it in hand here.
    leased_until: 'null::timestamptz',
    webhook_id: `coalesce((
      select h.id
      from usage_alert_webhooks as h
      where h.payer_id is null
        and h.removed_at is null
        and h.url = j.row ->> 'shared_url'
      order by h.created_at
      limit 1
    ), r.webhook_id)`,
  },
};

/**
 * Writes the state, $1, of a payer, in one statement. $2 and $3: the mark that everything copied before has
 * passed; as marks of the source mean nothing here. Rows: tables that did not keep all of it.
 */
export function writeStateStatement(
  scope: PayerScope,
  state: string,
  mark: PresentMark,
  columns: Columns,
): Statement {
  const tables = STATE_TABLES.filter(({ isOf }) => isOf(scope) !== null).map(({ name }) => name);
  const writtenOf = (name: string) =>
    name === 'budget_windows' ? 'window_written' : `${name}_written`;
  const parts = tables.flatMap((name) => {
    const names = listOf(columns, name);
    const values = names.map((column) => VALUES[name]?.[column] ?? writtenValue(name, column, 'r'));
    const written = `${writtenOf(name)} as (
  insert into ${name} (${quotedList(names)})
  select ${values.join(', ')}
  from jsonb_array_elements($1::jsonb -> '${name}') with ordinality as j(row, place)
  cross join lateral jsonb_populate_record(null::${name}, j.row) as r
  order by j.place
  returning ${name === 'budget_windows' ? 'id, budget_id, window_start' : '1'}
)`;
    return name === 'budget_windows' ? [written, WINDOW_IDS] : [written];
  });
  const isNotKept = (name: string) =>
    `(select count(*) from ${writtenOf(name)}) < jsonb_array_length($1::jsonb -> '${name}')`;
  const text = `/* shards.writeState */
with ${parts.join(', ')}
select t.name
from (values ${tables.map((name) => `('${name}', ${isNotKept(name)})`).join(',\n  ')}) as t(name, is_not_kept)
where t.is_not_kept
  and $2::bigint is not null
  and $3::bigint[] is not null`;
  return { name: nameOfText(text), text, values: [state, mark.below, mark.except] };
}

/** Webhooks of everybody by where they lead: which of `urls` there are here. */
export function findSharedWebhooksStatement(urls: readonly string[]): Statement {
  return {
    name: 'shards_shared_webhooks',
    text: `/* shards.findSharedWebhooks */
select h.url
from usage_alert_webhooks as h
where h.payer_id is null
  and h.removed_at is null
  and h.url in (select u.url from jsonb_array_elements_text($1::jsonb) as u(url))`,
    values: [JSON.stringify(urls)],
  };
}

/**
 * The payer is at home here, with what it had. Its personal data is scrubbed once more where the user was
 * deleted: rows that were copied before may have it.
 */
export function settlePayerHereStatement(
  scope: PayerScope,
  id: string,
  payer: string,
  columns: Columns,
): Statement {
  const names = listOf(columns, scope.payers).filter((name) => !OWN_OF_PAYER.has(name));
  const scrub =
    scope.name === 'user'
      ? `,
  scrub_after_xid = case when p.deleted_at is not null then pg_current_xact_id() end`
      : '';
  const text = `/* shards.settlePayerHere */
update ${scope.payers} as u
set ${names.map((name) => `${quoted(name)} = ${writtenValue(scope.payers, name, 'p')}`).join(',\n  ')},
  microdollars_used = u.microdollars_used - coalesce(u.opening_microdollars_used, 0)
    + p.opening_microdollars_used,
  opening_microdollars_used = p.opening_microdollars_used,
  is_elsewhere = false${scrub}
from jsonb_populate_record(null::${scope.payers}, $2::jsonb) as p
where u.id = $1::${scope.idType}
returning u.id`;
  return { name: nameOfText(text), text, values: [id, payer] };
}

export interface ReportedRow {
  balance: string;
  acquired: string;
  /** Digests of days and months. */
  days: string;
  months: string;
}

/** What a shard reports of a payer, exact: equal on both, or the move is not made. */
export function reportedStatement(scope: PayerScope, id: string): Statement {
  const view = scope.name === 'user' ? 'kilocode_user_balances' : 'organization_balances';
  const column = scope.name === 'user' ? 'kilo_user_id' : 'organization_id';
  return {
    name: `shards_reported_${scope.name}`,
    text: `/* shards.reported */
select coalesce(u.total_microdollars_acquired, 0)::text as acquired,
  (select b.microdollars_used::text from ${view} as b where b.${column} = $1::${scope.idType}) as balance,
  (
    select coalesce(md5(string_agg(concat_ws('|', d.kilo_user_id, d.usage_date,
      d.total_cost_microdollars), e'\\n' order by d.kilo_user_id collate "C", d.usage_date)), '')
    from microdollar_usage_daily_exact as d
    where ${isPaidBy(scope, 'd')}
      and d.total_cost_microdollars <> 0
  ) as days,
  (
    select coalesce(md5(string_agg(concat_ws('|', e.kilo_user_id, e.month, e.total_cost_microdollars,
      e.total_charged_microdollars, e.request_count), e'\\n'
      order by e.kilo_user_id collate "C", e.month)), '')
    from exa_monthly_usage_exact as e
    where ${isPaidBy(scope, 'e')}
      and e.request_count <> 0
  ) as months
from ${scope.payers} as u
where u.id = $1::${scope.idType}`,
    values: [id],
  };
}
