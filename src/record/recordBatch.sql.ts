import { plainArray, type Statement, textArray } from '../db/statement.js';
import { DAILY_ROLLUP, periodOf } from '../schema/rollups.js';
import type { ValidEvent } from './event.js';
import {
  METADATA_COLUMN_LIST,
  type MetadataRow,
  metadataArrayParameters,
  metadataArrays,
} from './metadataRow.js';

/**
 * What the statement tells, one row each:
 * - `event`: an event that was really inserted; `key` = its id
 * - `user` / `organization`: a payer whose row was updated in place; `amount` = its new balance
 * - `user_snapshot` / `organization_snapshot`: a payer that was not; `amount` = its balance before
 * - `user_appended` / `organization_appended`: `amount` appended for a payer by this statement
 */
export interface BatchRow {
  kind:
    | 'event'
    | 'user'
    | 'organization'
    | 'user_snapshot'
    | 'organization_snapshot'
    | 'user_appended'
    | 'organization_appended';
  key: string;
  amount: string | null;
  created_at: string | null;
}

/** Daily rows that one statement creates: each takes a subtransaction's worth of work. */
const OPENED_ROWS = 64;

/**
 * Records N events in one statement: usage rows, metadata, rollup and balance effects (I1).
 *
 * CTEs in reading order:
 *   input     the events; ids are unique within a batch
 *   known     those whose payer exists and that are not below the archive horizon
 *   inserted  the rows that are really new, in id order (two batches sharing ids would else
 *             deadlock); every effect derives from this (I3)
 *   metadata_written
 *   effect    one row per counter key: (user, organization, UTC day)
 *   target    the effect, and its rows where they could be locked at once (I4): the payer only
 *             with nothing pending (a range that only one index fits: migration 0007), the daily
 *             row only with the payer
 *   placed    + daily rows created for first events of a day, where they fit into the bound. A
 *             payer's effects go in place together: another writer, which adds to the balance in
 *             place but does not see this one's pending rows yet, would answer with half of them
 *   daily_updated, user_updated, organization_updated   effects in place
 *   appended  all other effects
 *
 * No CTE is joined to another, or to a table (a generic plan made while tables were small may read
 * a whole index for each row): rows are carried forward, tables are read by index in laterals that
 * the planner cannot flatten, and updated by an array of ids, which only the index can serve. The
 * arrays are uncorrelated subqueries: those are not run again for a row that moved on since the
 * snapshot (EvalPlanQual), where a CTE that writes could not be.
 * A balance (rule 7): in place, from RETURNING alone, for nothing was pending; else from the
 * statement's snapshot, row and pending; and what this statement appended on top.
 */
const METADATA_WRITTEN = `, metadata_written as (
  insert into microdollar_usage_metadata (id, kilo_user_id, created_at, ${METADATA_COLUMN_LIST})
  select id, kilo_user_id, coalesce(created_at, now()), ${METADATA_COLUMN_LIST}
  from unnest(
    $1::uuid[], $2::text[], $16::timestamptz[], $18::boolean[], ${metadataArrayParameters(19)}
  ) as m(id, kilo_user_id, created_at, has_metadata, ${METADATA_COLUMN_LIST})
  where has_metadata
    and id in (select id from inserted)
    and kilo_user_id not in (select kilo_user_id from known where is_deleted)
)`;

const textWith = (metadata: string) => `/* microdollar.recordUsageBatch */
with input as materialized (
  select e.*
  from unnest(
    $1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
    $14::bigint[], $15::boolean[], $16::timestamptz[]
  ) as e(id, kilo_user_id, organization_id, provider, model, requested_model,
    inference_provider, project_id, cost, input_tokens, output_tokens, cache_write_tokens,
    cache_hit_tokens, cache_discount, has_error, created_at)
), known as materialized (
  select i.*, u.is_deleted
  from input as i
  cross join lateral (
    select u.deleted_at is not null as is_deleted
    from kilocode_users as u
    where u.id = i.kilo_user_id
    limit 1
  ) as u
  where (i.organization_id is null
      or (select true from organizations as o where o.id = i.organization_id limit 1))
    and (i.created_at is null or i.created_at >= coalesce(
      (select s.archive_horizon from ledger_settings as s where s.id = 1), '-infinity'))
), inserted as (
  insert into microdollar_usage (
    id, kilo_user_id, organization_id, provider, model, requested_model, inference_provider,
    project_id, cost, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens,
    cache_discount, has_error, created_at)
  select id, kilo_user_id, organization_id, provider, model, requested_model,
    inference_provider, project_id, cost, input_tokens, output_tokens, cache_write_tokens,
    cache_hit_tokens, cache_discount, has_error, coalesce(created_at, now())
  from known
  order by id
  on conflict (id) do nothing
  returning id, kilo_user_id, organization_id, cost, created_at
)${metadata}, effect as materialized (
  select kilo_user_id, organization_id, ${periodOf(DAILY_ROLLUP, 'created_at')} as usage_date,
    sum(cost)::bigint as cost
  from inserted
  where cost <> 0
  group by 1, 2, 3
), target as materialized (
  select e.*,
    u.id is not null or o.id is not null as is_payer_locked,
    coalesce(du.id, dorg.id) as daily_id
  from effect as e
  left join lateral (
    select u.id
    from kilocode_users as u
    where $17::boolean
      and e.organization_id is null
      and u.id = e.kilo_user_id
      and (
        select true from microdollar_usage_pending as p
        where (p.kilo_user_id, p.xid) >= (u.id, u.pending_floor)
          and p.kilo_user_id <= u.id
          and p.organization_id is null
        limit 1) is null
    for no key update of u skip locked
  ) as u on true
  left join lateral (
    select o.id
    from organizations as o
    where $17::boolean
      and o.id = e.organization_id
      and (
        select true from microdollar_usage_pending as p
        where (p.organization_id, p.xid) >= (o.id, o.pending_floor)
          and p.organization_id <= o.id
        limit 1) is null
    for no key update of o skip locked
  ) as o on true
  left join lateral (
    select d.id
    from microdollar_usage_daily as d
    where u.id is not null
      and d.kilo_user_id = e.kilo_user_id
      and d.organization_id is null
      and d.usage_date = e.usage_date
    for no key update of d skip locked
  ) as du on true
  left join lateral (
    select d.id
    from microdollar_usage_daily as d
    where o.id is not null
      and d.kilo_user_id = e.kilo_user_id
      and d.organization_id = e.organization_id
      and d.usage_date = e.usage_date
    for no key update of d skip locked
  ) as dorg on true
), placed as materialized (
  select kilo_user_id, organization_id, usage_date, cost,
    case when is_placeable then daily_id end as daily_id,
    case when is_placeable and daily_id is null
      then microdollar_open_daily(kilo_user_id, organization_id, usage_date, cost)
      else false end as is_opened
  from (
    select t.*,
      bool_and(is_payer_locked and (daily_id is not null or place <= ${OPENED_ROWS})) over (
        partition by organization_id, case when organization_id is null then kilo_user_id end
      ) as is_placeable
    from (
      select t.*,
        row_number() over (
          partition by is_payer_locked and daily_id is null
          order by organization_id, kilo_user_id
        ) as place
      from target as t
    ) as t
  ) as t
), daily_sum as materialized (
  select array_agg(daily_id) as ids, array_agg(cost) as costs
  from placed
  where daily_id is not null
), daily_updated as (
  update microdollar_usage_daily as d
  set total_cost_microdollars = d.total_cost_microdollars
      + ((select costs from daily_sum)::bigint[])[
      array_position((select ids from daily_sum)::uuid[], d.id)],
    updated_at = now()
  where d.id = any ((select ids from daily_sum)::uuid[])
), user_sum as materialized (
  select array_agg(kilo_user_id) as ids, array_agg(cost) as costs
  from (
    select kilo_user_id, sum(cost)::bigint as cost
    from placed
    where organization_id is null
      and (daily_id is not null or is_opened)
    group by kilo_user_id
  ) as s
), user_updated as (
  update kilocode_users as u
  set microdollars_used = u.microdollars_used
    + ((select costs from user_sum)::bigint[])[
      array_position((select ids from user_sum)::text[], u.id)]
  where u.id = any ((select ids from user_sum)::text[])
  returning u.id, u.microdollars_used
), organization_sum as materialized (
  select array_agg(organization_id) as ids, array_agg(cost) as costs
  from (
    select organization_id, sum(cost)::bigint as cost
    from placed
    where organization_id is not null
      and (daily_id is not null or is_opened)
    group by organization_id
  ) as s
), organization_updated as (
  update organizations as o
  set microdollars_used = o.microdollars_used
    + ((select costs from organization_sum)::bigint[])[
      array_position((select ids from organization_sum)::uuid[], o.id)]
  where o.id = any ((select ids from organization_sum)::uuid[])
  returning o.id, o.microdollars_used
), appended as (
  insert into microdollar_usage_pending
    (kilo_user_id, organization_id, usage_date, cost_microdollars)
  select kilo_user_id, organization_id, usage_date, cost
  from placed
  where daily_id is null
    and not is_opened
  returning kilo_user_id, organization_id, cost_microdollars
), unplaced_payer as materialized (
  select distinct kilo_user_id, organization_id
  from (
    select case when organization_id is null then kilo_user_id end as kilo_user_id,
      organization_id
    from placed
    where daily_id is null
      and not is_opened
    union all
    select case when organization_id is null then kilo_user_id end, organization_id
    from inserted
    where cost = 0
  ) as payers
)
select 'event' as kind, id::text as key, null::bigint as amount,
  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
from inserted
union all
select 'user', id, microdollars_used, null from user_updated
union all
select 'organization', id::text, microdollars_used, null from organization_updated
union all
select 'user_snapshot', kilo_user_id, microdollar_user_balance(kilo_user_id), null
from unplaced_payer where organization_id is null
union all
select 'organization_snapshot', organization_id::text,
  microdollar_organization_balance(organization_id), null
from unplaced_payer where organization_id is not null
union all
select 'user_appended', kilo_user_id, sum(cost_microdollars)::bigint, null
from appended where organization_id is null group by kilo_user_id
union all
select 'organization_appended', organization_id::text, sum(cost_microdollars)::bigint, null
from appended where organization_id is not null group by organization_id`;

const TEXT = textWith('');
const TEXT_WITH_METADATA = textWith(METADATA_WRITTEN);

/** Ids must be unique within `events`. `inPlace` false: append every effect. */
export function recordBatchStatement(
  events: readonly ValidEvent[],
  metadata: readonly (MetadataRow | null)[],
  inPlace: boolean,
): Statement {
  const hasMetadata = metadata.some((row) => row !== null);
  return {
    name: hasMetadata ? 'microdollar_record_batch_metadata' : 'microdollar_record_batch',
    text: hasMetadata ? TEXT_WITH_METADATA : TEXT,
    values: [
      plainArray(events.map((event) => event.id)),
      textArray(events.map((event) => event.kilo_user_id)),
      plainArray(events.map((event) => event.organization_id)),
      textArray(events.map((event) => event.provider)),
      textArray(events.map((event) => event.model)),
      textArray(events.map((event) => event.requested_model)),
      textArray(events.map((event) => event.inference_provider)),
      textArray(events.map((event) => event.project_id)),
      plainArray(events.map((event) => event.cost)),
      plainArray(events.map((event) => event.input_tokens)),
      plainArray(events.map((event) => event.output_tokens)),
      plainArray(events.map((event) => event.cache_write_tokens)),
      plainArray(events.map((event) => event.cache_hit_tokens)),
      plainArray(events.map((event) => event.cache_discount)),
      plainArray(events.map((event) => event.has_error)),
      plainArray(events.map((event) => event.created_at)),
      inPlace,
      ...(hasMetadata
        ? [plainArray(metadata.map((row) => row !== null)), ...metadataArrays(metadata)]
        : []),
    ],
  };
}
