import type { ApproachDefinition } from '../approach.js';
import { Periodic } from './periodic.js';
import {
  CONNECTIONS,
  dropGuards,
  eventStatement,
  ORGANIZATION,
  openPool,
  USER,
  WRITE_ROWS,
} from './statements.js';
import { ledgerDifferences } from './totals.js';

const TEXT = `/* insert, key queued for repair */
with ${WRITE_ROWS}
insert into bench_repair_queue (kilo_user_id, organization_id, usage_date)
values (${USER}, ${ORGANIZATION}, (now() at time zone 'UTC')::date)`;

const PAUSE_MS = 1_000;

const QUEUE = `
create table bench_repair_queue (
  id bigint generated always as identity primary key,
  kilo_user_id text not null,
  organization_id uuid,
  usage_date date not null
);`;

/** Takes the queue, recomputes each key's day from raw usage, and moves balances by the change. */
const REPAIR = `/* repair */
with taken as (
  delete from bench_repair_queue returning kilo_user_id, organization_id, usage_date
), key as materialized (
  select distinct kilo_user_id, organization_id, usage_date from taken
), recomputed as materialized (
  select k.*, d.id, coalesce(d.total_cost_microdollars, 0) as before,
    (select coalesce(sum(m.cost), 0)::bigint
      from microdollar_usage as m
      where m.kilo_user_id = k.kilo_user_id
        and m.organization_id is not distinct from k.organization_id
        and m.created_at >= k.usage_date::timestamp at time zone 'UTC'
        and m.created_at < (k.usage_date + 1)::timestamp at time zone 'UTC') as total
  from key as k
  left join lateral (
    select d.id, d.total_cost_microdollars
    from microdollar_usage_daily as d
    where d.kilo_user_id = k.kilo_user_id
      and d.organization_id is not distinct from k.organization_id
      and d.usage_date = k.usage_date
  ) as d on true
), updated as (
  update microdollar_usage_daily as d
  set total_cost_microdollars = r.total, updated_at = now()
  from recomputed as r
  where d.id = r.id
), inserted as (
  insert into microdollar_usage_daily
    (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
  select kilo_user_id, organization_id, usage_date, total from recomputed where id is null
), users_updated as (
  update kilocode_users as u
  set microdollars_used = u.microdollars_used + s.change
  from (
    select kilo_user_id, sum(total - before)::bigint as change
    from recomputed where organization_id is null group by 1
  ) as s
  where u.id = s.kilo_user_id
)
update organizations as o
set microdollars_used = o.microdollars_used + s.change
from (
  select organization_id, sum(total - before)::bigint as change
  from recomputed where organization_id is not null group by 1
) as s
where o.id = s.organization_id`;

/** What replaced the seed's rollup in production, hourly there; here a second after the last. */
export const repairQueue: ApproachDefinition = {
  name: 'repair-queue',
  label: 'asynchronous repair queue, each second',
  kind: 'alternative',
  caveat: 'totals and balances are stale; a repair reads the whole day of a user again',
  callers: CONNECTIONS,
  async open({ url, admin, lookups }) {
    await dropGuards(admin);
    await admin.query(QUEUE);
    const pool = openPool(url);
    const worker = openPool(url, 1);
    const periodic = new Periodic(async () => {
      await worker.query(REPAIR);
    }, PAUSE_MS);
    return {
      async write([event]) {
        if (event) await pool.query(eventStatement('queue_insert', TEXT, event, lookups));
      },
      resume: () => periodic.resume(),
      settle: () => periodic.settle(),
      notes: () => periodic.notes(),
      differences: () => ledgerDifferences(admin),
      async close() {
        await pool.end();
        await worker.end();
      },
    };
  },
};
