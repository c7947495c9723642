import type { ApproachDefinition } from '../approach.js';
import { CONNECTIONS, dropGuards, eventStatement, openPool, WRITE_ROWS } from './statements.js';
import { ledgerDifferences } from './totals.js';

const TEXT = `/* insert, totals by trigger */
with ${WRITE_ROWS}
select true as is_written`;

const ROW_TRIGGER = `
create function bench_row_totals() returns trigger language plpgsql as $$
begin
  if new.organization_id is null then
    insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
    values (new.kilo_user_id, (new.created_at at time zone 'UTC')::date, new.cost)
    on conflict (kilo_user_id, usage_date) where organization_id is null
    do update set updated_at = now(), total_cost_microdollars =
      microdollar_usage_daily.total_cost_microdollars + excluded.total_cost_microdollars;
    update kilocode_users set microdollars_used = microdollars_used + new.cost
    where id = new.kilo_user_id;
  else
    insert into microdollar_usage_daily
      (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
    values (new.kilo_user_id, new.organization_id,
      (new.created_at at time zone 'UTC')::date, new.cost)
    on conflict (kilo_user_id, organization_id, usage_date) where organization_id is not null
    do update set updated_at = now(), total_cost_microdollars =
      microdollar_usage_daily.total_cost_microdollars + excluded.total_cost_microdollars;
    update organizations set microdollars_used = microdollars_used + new.cost
    where id = new.organization_id;
  end if;
  return null;
end
$$;
create trigger bench_totals after insert on microdollar_usage
for each row when (new.cost <> 0) execute function bench_row_totals();`;

/** Counter rows in key order, so that two batches cannot deadlock. */
const STATEMENT_TRIGGER = `
create function bench_statement_totals() returns trigger language plpgsql as $$
begin
  insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
  select kilo_user_id, (created_at at time zone 'UTC')::date, sum(cost)
  from new_rows
  where organization_id is null and cost <> 0
  group by 1, 2
  order by 1, 2
  on conflict (kilo_user_id, usage_date) where organization_id is null
  do update set updated_at = now(), total_cost_microdollars =
    microdollar_usage_daily.total_cost_microdollars + excluded.total_cost_microdollars;
  insert into microdollar_usage_daily
    (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
  select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date, sum(cost)
  from new_rows
  where organization_id is not null and cost <> 0
  group by 1, 2, 3
  order by 1, 2, 3
  on conflict (kilo_user_id, organization_id, usage_date) where organization_id is not null
  do update set updated_at = now(), total_cost_microdollars =
    microdollar_usage_daily.total_cost_microdollars + excluded.total_cost_microdollars;
  update kilocode_users as u set microdollars_used = u.microdollars_used + s.cost
  from (
    select kilo_user_id, sum(cost)::bigint as cost
    from new_rows where organization_id is null group by 1
  ) as s
  where u.id = s.kilo_user_id;
  update organizations as o set microdollars_used = o.microdollars_used + s.cost
  from (
    select organization_id, sum(cost)::bigint as cost
    from new_rows where organization_id is not null group by 1
  ) as s
  where o.id = s.organization_id;
  return null;
end
$$;
create trigger bench_totals after insert on microdollar_usage
referencing new table as new_rows
for each statement execute function bench_statement_totals();`;

function byTrigger(name: string, label: string, ddl: string): ApproachDefinition {
  return {
    name,
    label,
    kind: 'alternative',
    caveat: 'writers of one user queue on its rows; no balance in the answer',
    callers: CONNECTIONS,
    async open({ url, admin, lookups }) {
      await dropGuards(admin);
      await admin.query(ddl);
      const pool = openPool(url);
      return {
        async write([event]) {
          if (event) await pool.query(eventStatement('trigger_insert', TEXT, event, lookups));
        },
        differences: () => ledgerDifferences(admin),
        close: () => pool.end(),
      };
    },
  };
}

export const rowTrigger = byTrigger('row-trigger', 'row trigger', ROW_TRIGGER);
export const statementTrigger = byTrigger(
  'statement-trigger',
  'statement trigger, transition table',
  STATEMENT_TRIGGER,
);
