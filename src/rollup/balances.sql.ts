import { COUNTER_LIMIT } from '../counter/marks.sql.js';
import type { Statement } from '../db/statement.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../schema/unsettled.js';

/**
 * What a payer has used (I5), by its declared sources
 *
 *   opening + sum of the payer's raw `cost` + archived cost + Exa charged (from the exact totals)
 *
 * and as it is reported, by the exact view.
 */
export interface BalanceSource {
  scope: PayerScope;
  balanceView: 'kilocode_user_balances' | 'organization_balances';
  /** Column of the view, and of the audit table. */
  key: 'kilo_user_id' | 'organization_id';
}

export const BALANCE_SOURCES: readonly BalanceSource[] = [
  { scope: USER_SCOPE, balanceView: 'kilocode_user_balances', key: 'kilo_user_id' },
  { scope: ORGANIZATION_SCOPE, balanceView: 'organization_balances', key: 'organization_id' },
];

/** The sources but for the opening, as one expression on payer `t`. */
function sourcesSql({ scope }: BalanceSource): string {
  return `((
    select coalesce(sum(s.cost), 0) from microdollar_usage as s where ${scope.ownsCounter('s', 't')}
  ) + (
    select coalesce(sum(s.archived_cost_microdollars), 0)
    from microdollar_usage_daily as s
    where ${scope.ownsCounter('s', 't')}
      and s.archived_cost_microdollars <> 0
  ) + (
    select coalesce(sum(s.total_charged_microdollars), 0)
    from exa_monthly_usage_exact as s
    where ${scope.ownsCounter('s', 't')}
  ))`;
}

export interface BalanceRow {
  id: string;
  /** Null: adopted, and not derived yet. */
  opening: string | null;
  reported: string;
  sources: string;
}

const columns = (source: BalanceSource): string =>
  `t.id::text as id, t.opening_microdollars_used as opening,
  (select b.microdollars_used from ${source.balanceView} as b where b.${source.key} = t.id)
    as reported,
  ${sourcesSql(source)} as sources`;

/** The next payers by id, `after` null = from the first. */
export function balanceBlockStatement(
  source: BalanceSource,
  after: string | null,
  limit: number,
): Statement {
  const { payers, idType } = source.scope;
  return {
    name: `microdollar_verify_balances_${payers}`,
    text: `/* microdollar.verifyBalances */
select ${columns(source)}
from (
  select id, opening_microdollars_used
  from ${payers}
  where $1::${idType} is null
    or id > $1::${idType}
  order by id
  limit $2::integer
) as t
order by t.id`,
    values: [after, limit],
  };
}

/** One payer; no row when there is none. `id` may be no UUID. */
export function balanceStatement(source: BalanceSource, id: string): Statement {
  const { payers, idType } = source.scope;
  return {
    name: `microdollar_verify_balance_${payers}`,
    plannedOnce: true,
    text: `/* microdollar.verifyBalance */
select ${columns(source)}
from ${payers} as t
where ${idType === 'uuid' ? 't.id::text' : 't.id'} = $1::text`,
    values: [id],
  };
}

/** Instant of the snapshot, and how many corrections of the payer there were since a day before. */
export interface RepairsRow {
  since: string;
  repairs: string;
}

export function countRepairsStatement(
  source: BalanceSource,
  id: string,
  since: string | null,
): Statement {
  return {
    name: `microdollar_count_repairs_${source.scope.payers}`,
    plannedOnce: true,
    text: `/* microdollar.countRepairs */
select p.since::text as since, (
    select count(*)
    from rollup_repairs as r
    where r.repaired_at >= p.since
      and r.counter = '${source.scope.payers}'
      and r.${source.key} = $1::${source.scope.idType}
  ) as repairs
from (select coalesce($2::timestamptz, now() - interval '1 day') as since) as p`,
    values: [id, since],
  };
}

export function lockPayerStatement(source: BalanceSource, id: string): Statement {
  return {
    name: `microdollar_lock_payer_${source.scope.payers}`,
    plannedOnce: true,
    text: `/* microdollar.lockPayer */
select id
from ${source.scope.payers}
where id = $1::${source.scope.idType}
for no key update skip locked`,
    values: [id],
  };
}

/** No row when the payer's row cannot hold the result. */
export function moveBalanceStatement(source: BalanceSource, id: string, by: bigint): Statement {
  return {
    name: `microdollar_move_balance_${source.scope.payers}`,
    plannedOnce: true,
    text: `/* microdollar.moveBalance */
update ${source.scope.payers} as t
set microdollars_used = t.microdollars_used + $2::numeric
where t.id = $1::${source.scope.idType}
  and abs(t.microdollars_used + $2::numeric) < ${COUNTER_LIMIT}
returning t.id`,
    values: [id, String(by)],
  };
}

/** No row when it was derived meanwhile. */
export function setOpeningStatement(source: BalanceSource, id: string, opening: bigint): Statement {
  return {
    name: `microdollar_set_opening_${source.scope.payers}`,
    plannedOnce: true,
    text: `/* microdollar.setOpening */
update ${source.scope.payers} as t
set opening_microdollars_used = $2::numeric
where t.id = $1::${source.scope.idType}
  and t.opening_microdollars_used is null
returning t.id`,
    values: [id, String(opening)],
  };
}

export function readCheckpointStatement(source: BalanceSource): Statement {
  return {
    name: 'microdollar_read_balance_checkpoint',
    text: `/* microdollar.readBalanceCheckpoint */
select done_until from balance_checks where scope = $1::text`,
    values: [source.scope.payers],
  };
}

export function saveCheckpointStatement(
  source: BalanceSource,
  doneUntil: string | null,
  counts: { checked: number; drifted: number },
  isFinished: boolean,
): Statement {
  return {
    name: 'microdollar_save_balance_checkpoint',
    text: `/* microdollar.saveBalanceCheckpoint */
insert into balance_checks as c (scope, done_until, checked, drifted, started_at, finished_at)
values ($1::text, $2::text, $3::bigint, $4::bigint, now(), case when $5::boolean then now() end)
on conflict (scope) do update
set done_until = excluded.done_until,
  checked = excluded.checked,
  drifted = excluded.drifted,
  started_at = case when c.finished_at is null then c.started_at else now() end,
  finished_at = excluded.finished_at`,
    values: [source.scope.payers, doneUntil, counts.checked, counts.drifted, isFinished],
  };
}
