import type { Statement } from '../db/statement.js';

const ROWS_PER_PAGE = 1_000;

/**
 * Columns of metadata that may identify a person, or quote one. Scrubbed on soft delete; token
 * counts, model, cost and status stay (I11).
 */
const PERSONAL_COLUMNS = [
  'user_prompt_prefix',
  'system_prompt_prefix_id',
  'http_user_agent_id',
  'http_ip_id',
  'vercel_ip_city_id',
  'vercel_ip_country_id',
  'vercel_ip_latitude',
  'vercel_ip_longitude',
  'ja4_digest_id',
  'machine_id',
  'session_id',
  'end_user',
  'lookup_values',
] as const;

/** CTEs that take away keys, memberships, alerts and webhooks of user $1. */
const TAKEN_AWAY = `revoked as (
  update api_keys
  set revoked_at = coalesce(revoked_at, now()),
    name = null
  where kilo_user_id = $1::text
    and (revoked_at is null or name is not null)
), left_organizations as (
  delete from organization_memberships
  where kilo_user_id = $1::text
), silenced as (
  update usage_alerts
  set removed_at = now()
  where payer_scope = 'user'
    and payer_id = $1::text
    and removed_at is null
), unhooked as (
  update usage_alert_webhooks
  set removed_at = coalesce(removed_at, now()),
    url = '',
    secret = '',
    previous_secret = null
  where payer_scope = 'user'
    and payer_id = $1::text
    and (removed_at is null or url <> '')
)`;

/**
 * Marks the user, who then waits for a final scrub (`scrub_after_xid` is set), and takes away what is there.
 * No row: no such user.
 */
export function markDeletedStatement(kiloUserId: string): Statement {
  return {
    name: 'microdollar_soft_delete_user',
    text: `/* microdollar.softDeleteUser */
with marked as (
  update kilocode_users
  set email = null,
    name = null,
    deleted_at = coalesce(deleted_at, now()),
    updated_at = now(),
    scrub_after_xid = pg_current_xact_id()
  where id = $1::text
  returning id
), ${TAKEN_AWAY}
select id from marked`,
    values: [kiloUserId],
  };
}

/** The same of what was in flight beside the mark. */
export function takeAwayStatement(kiloUserId: string): Statement {
  return {
    name: 'microdollar_take_away_from_deleted',
    text: `/* microdollar.takeAwayFromDeleted */
with ${TAKEN_AWAY}
select`,
    values: [kiloUserId],
  };
}

export function findUnfinishedStatement(): Statement {
  return {
    name: 'microdollar_find_unfinished_scrubs',
    text: `/* microdollar.findUnfinishedScrubs */
select id
from kilocode_users
where deleted_at is not null
  and scrub_after_xid is not null
order by deleted_at
limit 100`,
    values: [],
  };
}

/** After the last scrub. */
export function finishScrubStatement(kiloUserId: string): Statement {
  return {
    name: 'microdollar_finish_scrub',
    text: `/* microdollar.finishScrub */
update kilocode_users
set scrub_after_xid = null
where id = $1::text`,
    values: [kiloUserId],
  };
}

export interface ScrubbedPage {
  /** The last usage row of the page. */
  id: string;
  created_at: string;
  /** Rows of metadata scrubbed. */
  scrubbed: string;
}

/** Scrubs the metadata of a page of the user's usage, by time; no row when there is no more. */
export function scrubPageStatement(kiloUserId: string, after: ScrubbedPage | null): Statement {
  return {
    name: 'microdollar_scrub_page',
    text: `/* microdollar.scrubPage */
with page as materialized (
  select id, created_at
  from microdollar_usage
  where kilo_user_id = $1::text
    and created_at >= coalesce($2::timestamptz, '-infinity')
    and (created_at, id) > (coalesce($2::timestamptz, '-infinity'),
      coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
  order by created_at, id
  limit ${ROWS_PER_PAGE}
), scrubbed as (
  update microdollar_usage_metadata as m
  set ${PERSONAL_COLUMNS.map((column) => `${column} = null`).join(', ')}
  from page
  where m.id = page.id
    and num_nonnulls(${PERSONAL_COLUMNS.map((column) => `m.${column}`).join(', ')}) > 0
  returning m.id
)
select id, to_json(created_at) #>> '{}' as created_at, (select count(*) from scrubbed) as scrubbed
from page
order by page.created_at desc, id desc
limit 1`,
    values: [kiloUserId, after?.created_at ?? null, after?.id ?? null],
  };
}
