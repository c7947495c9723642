import type pg from 'pg';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';

const ROWS_PER_STEP = 1_000;
/** How long one call waits for writes in flight; the background finishes what is left. */
const BARRIER_WAIT_MS = 5_000;
/** A ledger statement that began before the mark has ended by then (statement_timeout). */
const SETTLED_AFTER_SECONDS = 60;
/** The barrier is not set yet: above every transaction id. */
const NOT_SET = '18446744073709551615';

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
  'lookup_values',
] as const;

/**
 * Soft-deletes a user: scrubs personal data from the user and from the metadata of their usage,
 * revokes their keys and memberships, and keeps usage, rollup and balance as billing records (I11).
 *
 * Steps, each committed: (1) mark the user, so that new writes store no metadata; (2) note the
 * newest transaction that may not have seen the mark; (3) scrub; (4) when all those have ended,
 * scrub once more. A step that is not reached here, because a transaction stays open, is taken
 * by `finishScrubs` in the background. Idempotent.
 * @throws LedgerError `unknown_user`, `unavailable`
 */
export async function softDeleteUser(
  pool: pg.Pool,
  kiloUserId: string,
): Promise<{ scrubbedEvents: number; isFinal: boolean }> {
  try {
    await markDeleted(pool, kiloUserId);
    let scrubbedEvents = await scrubMetadata(pool, kiloUserId);
    scrubbedEvents += await scrubAdoptedMetadata(pool, kiloUserId);
    const deadlineMs = Date.now() + BARRIER_WAIT_MS;
    let isPast = await isPastBarrier(pool, kiloUserId);
    while (!isPast && Date.now() < deadlineMs) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      isPast = await isPastBarrier(pool, kiloUserId);
    }
    scrubbedEvents += await scrubMetadata(pool, kiloUserId);
    return { scrubbedEvents, isFinal: isPast };
  } catch (error) {
    throw toLedgerError(error);
  }
}

/** Completes soft deletes whose writes in flight have ended since. Returns users finished. */
export async function finishScrubs(pool: pg.Pool): Promise<number> {
  const waiting = await pool.query<{ id: string }>(
    `/* microdollar.findUnfinishedScrubs */
     select id
     from kilocode_users
     where deleted_at is not null
       and scrub_after_xid is not null
     order by deleted_at
     limit 100`,
  );
  let finished = 0;
  for (const { id } of waiting.rows) {
    await setBarrier(pool, id);
    // Judged before the scrub: whatever the barrier waited for is then in the scrub's snapshots.
    const isSettled = await isPastBarrier(pool, id, SETTLED_AFTER_SECONDS);
    await scrubMetadata(pool, id);
    await scrubAdoptedMetadata(pool, id);
    if (!isSettled) continue;
    const done = await pool.query(
      `/* microdollar.finishScrub */
       update kilocode_users
       set scrub_after_xid = null
       where id = $1
         and pg_snapshot_xmin(pg_current_snapshot()) >= scrub_after_xid
         and deleted_at < now() - make_interval(secs => $2)`,
      [id, SETTLED_AFTER_SECONDS],
    );
    finished += done.rowCount ?? 0;
  }
  return finished;
}

async function markDeleted(pool: pg.Pool, kiloUserId: string): Promise<void> {
  const marked = await pool.query(
    `/* microdollar.softDeleteUser */
     with marked as (
       update kilocode_users
       set email = null,
         name = null,
         deleted_at = coalesce(deleted_at, now()),
         updated_at = now(),
         scrub_after_xid = $2::xid8
       where id = $1
       returning id
     ), revoked as (
       update api_keys
       set revoked_at = now()
       where kilo_user_id = $1
         and revoked_at is null
     ), left_organizations as (
       delete from organization_memberships
       where kilo_user_id = $1
     )
     select id from marked`,
    [kiloUserId, NOT_SET],
  );
  if (marked.rowCount === 0) {
    throw new LedgerError('unknown_user', 'there is no user with this id', {
      details: { field: 'id' },
    });
  }
  await setBarrier(pool, kiloUserId);
}

/** In a statement after the mark's commit: whoever begins later sees the mark. */
async function setBarrier(pool: pg.Pool, kiloUserId: string): Promise<void> {
  await pool.query(
    `/* microdollar.setScrubBarrier */
     update kilocode_users
     set scrub_after_xid = pg_snapshot_xmax(pg_current_snapshot())
     where id = $1
       and scrub_after_xid = $2::xid8`,
    [kiloUserId, NOT_SET],
  );
}

async function isPastBarrier(
  pool: pg.Pool,
  kiloUserId: string,
  settledAfterSeconds = 0,
): Promise<boolean> {
  const result = await pool.query<{ is_past: boolean }>(
    `/* microdollar.isPastScrubBarrier */
     select scrub_after_xid is null
       or (pg_snapshot_xmin(pg_current_snapshot()) >= scrub_after_xid
         and deleted_at <= now() - make_interval(secs => $2)) as is_past
     from kilocode_users
     where id = $1`,
    [kiloUserId, settledAfterSeconds],
  );
  return result.rows[0]?.is_past ?? true;
}

async function scrubMetadata(pool: pg.Pool, kiloUserId: string): Promise<number> {
  let scrubbed = 0;
  for (;;) {
    const step = await pool.query(
      `/* microdollar.scrubMetadata */
       with personal as (
         select id
         from microdollar_usage_metadata
         where kilo_user_id = $1
           and num_nonnulls(${PERSONAL_COLUMNS.join(', ')}) > 0
         limit $2
       )
       update microdollar_usage_metadata as m
       set ${PERSONAL_COLUMNS.map((column) => `${column} = null`).join(', ')}
       from personal
       where m.id = personal.id`,
      [kiloUserId, ROWS_PER_STEP],
    );
    scrubbed += step.rowCount ?? 0;
    if ((step.rowCount ?? 0) < ROWS_PER_STEP) return scrubbed;
  }
}

/**
 * Metadata that was there before the ledger was adopted names no user; its usage row does. Page
 * by page through the user's usage, where there is such metadata at all. Returns rows scrubbed.
 */
async function scrubAdoptedMetadata(pool: pg.Pool, kiloUserId: string): Promise<number> {
  const adopted = await pool.query(
    `/* microdollar.hasAdoptedMetadata */
     select from microdollar_usage_metadata where kilo_user_id is null limit 1`,
  );
  if (adopted.rowCount === 0) return 0;
  let scrubbed = 0;
  for (let after: AdoptedPage | null = null; ; ) {
    const step: pg.QueryResult<AdoptedPage> = await pool.query<AdoptedPage>(
      `/* microdollar.scrubAdoptedMetadata */
       with page as (
         select id, created_at
         from microdollar_usage
         where kilo_user_id = $1
           and (created_at, id) > (coalesce($2::timestamptz, '-infinity'),
             coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))
         order by created_at, id
         limit $4
       ), scrubbed as (
         update microdollar_usage_metadata as m
         set ${PERSONAL_COLUMNS.map((column) => `${column} = null`).join(', ')}
         from page
         where m.id = page.id
           and num_nonnulls(${PERSONAL_COLUMNS.map((column) => `m.${column}`).join(', ')}) > 0
         returning m.id
       )
       select id, created_at::text, (select count(*) from scrubbed) as scrubbed
       from page
       order by page.created_at desc, id desc
       limit 1`,
      [kiloUserId, after?.created_at ?? null, after?.id ?? null, ROWS_PER_STEP],
    );
    after = step.rows[0] ?? null;
    if (after === null) return scrubbed;
    scrubbed += Number(after.scrubbed);
  }
}

interface AdoptedPage {
  id: string;
  created_at: string;
  scrubbed: string;
}
