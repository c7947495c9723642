import { ORGANIZATION_NAME } from '../accounts/listAccounts.js';
import type { Statement } from '../db/statement.js';
import { judgedDays } from '../rollup/readMode.sql.js';

/** UTC days, both inclusive. */
export interface TopFilter {
  from: string;
  until: string;
  limit: number;
}

/** Null: a user who paid for themselves, else the organization. */
export interface TopRow {
  kilo_user_id: string | null;
  organization_id: string | null;
  name: string | null;
  cost_microdollars: string;
  /** Of all payers whose usage of these days cost something, on every row. */
  payers: string;
  total_microdollars: string;
}

/**
 * Who paid most, from the counter rows of the days and each payer's tail (I2): by an index of the days,
 * and by one look into the log for each payer there is.
 *
 *   payers  what each paid; not of who is at home on another shard, as long as this one has their rows too
 */
export function topStatement({ from, until, limit }: TopFilter): Statement {
  return {
    name: 'top_payers',
    text: `
      with payers as materialized (
        select s.kilo_user_id, s.organization_id, s.cost,
          coalesce(nullif(u.name, ''), case when o.id is not null then ${ORGANIZATION_NAME} end) as name
        from (
          select case when d.organization_id is null then d.kilo_user_id end as kilo_user_id,
            d.organization_id, sum(d.total_cost_microdollars) as cost
          from microdollar_usage_daily_exact as d
          where d.usage_date between $1::date and $2::date
          group by 1, 2
        ) as s
        left join kilocode_users as u on u.id = s.kilo_user_id
        left join organizations as o on o.id = s.organization_id
        where coalesce(u.is_elsewhere, o.is_elsewhere) is not true
      )
      select p.kilo_user_id, p.organization_id, p.name, p.cost::text as cost_microdollars,
        (select count(*) from payers)::text as payers,
        (select sum(a.cost) from payers as a)::text as total_microdollars
      from payers as p
      order by p.cost desc, p.kilo_user_id, p.organization_id
      limit $3::integer`,
    values: [from, until, limit],
  };
}

/**
 * UTC days of the range of which counter rows are not proven, oldest first. One that has nothing needs no
 * proof: nobody builds it, nor one that is still to come.
 */
export function unprovenDaysStatement({ from, until }: Omit<TopFilter, 'limit'>): Statement {
  return {
    name: 'top_unproven_days',
    text: `
      with ${judgedDays('$1::date', '$2::date')}
      select array(
        select j.day::text
        from judged as j
        join window_days as w on w.day = j.day
        where not j.is_proven
          and (w.drift_keys > 0
            or exists (select from microdollar_usage_daily as d where d.usage_date = j.day)
            or exists (
              select
              from microdollar_usage as m
              where m.created_at >= j.day::timestamp at time zone 'UTC'
                and m.created_at < (j.day + 1)::timestamp at time zone 'UTC'
            ))
        order by j.day) as days`,
    values: [from, until],
  };
}
