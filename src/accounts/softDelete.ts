import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { OlderTransactions } from '../db/openTransactions.js';
import { type Query, queryOnPool } from '../db/query.js';
import { classifyFailure, toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import {
  findUnfinishedStatement,
  finishScrubStatement,
  markDeletedStatement,
  type ScrubbedPage,
  scrubPageStatement,
  takeAwayStatement,
} from './softDelete.sql.js';

/** How long one call waits for writes in flight; the background finishes what is left. */
const WAIT_MS = 5_000;
const POLL_MS = 50;

/**
 * Soft-deletes a user: scrubs personal data from the user and from the metadata of their usage,
 * revokes their keys and memberships, takes away their alerts and webhooks, and keeps usage, rollup and
 * balance as billing records (I11).
 *
 * Steps, each committed: (1) mark the user, so that who sees the mark stores no metadata; (2) scrub;
 * (3) once every transaction that may not have seen the mark has ended, scrub once more. Only
 * then is it final: a transaction that was open when the mark was committed may have a snapshot
 * from before it, also one that has no transaction id, because it waits for a twin of its event.
 * Where such a transaction stays open, `finishScrubs` in the background takes step 3. Idempotent.
 * @throws LedgerError `unknown_user`, `unavailable`
 */
export async function softDeleteUser(
  pool: pg.Pool,
  kiloUserId: string,
): Promise<{ scrubbedEvents: number; isFinal: boolean }> {
  const query = queryOnPool(pool, false);
  try {
    await markDeleted(query, kiloUserId);
    const older = new OlderTransactions(query, { ignoresBlank: true });
    let open = await older.remaining();
    let scrubbedEvents = await scrub(query, kiloUserId);
    for (const deadlineMs = performance.now() + WAIT_MS; open.length > 0; ) {
      if (performance.now() > deadlineMs) break;
      await sleep(POLL_MS);
      open = await older.remaining();
    }
    scrubbedEvents += await scrub(query, kiloUserId);
    const isFinal = open.length === 0;
    if (isFinal) await query(finishScrubStatement(kiloUserId));
    return { scrubbedEvents, isFinal };
  } catch (error) {
    throw toLedgerError(error);
  }
}

async function markDeleted(query: Query, kiloUserId: string): Promise<void> {
  const marked = await query(markDeletedStatement(kiloUserId));
  if (marked.length > 0) return;
  throw new LedgerError('unknown_user', 'there is no user with this id', {
    details: { field: 'id' },
  });
}

/** What the user has by now, then page by page their usage. Returns rows of metadata scrubbed. */
async function scrub(query: Query, kiloUserId: string): Promise<number> {
  await query(takeAwayStatement(kiloUserId));
  let scrubbed = 0;
  for (let after: ScrubbedPage | null = null; ; ) {
    const [page]: ScrubbedPage[] = await query(scrubPageStatement(kiloUserId, after));
    if (!page) return scrubbed;
    scrubbed += Number(page.scrubbed);
    after = page;
  }
}

/** Users whose scrub waits, and for whom. */
interface Waiting {
  users: string[];
  older: OlderTransactions;
  /** Whose end was waited for when the users were scrubbed last; null: they were not yet. */
  open: string | null;
  /** Who could not be scrubbed then: a row was held for a moment. */
  left: readonly string[];
}

/** By pool: what one call began, the next one goes on with. */
const WAITING = new WeakMap<pg.Pool, Waiting>();

/**
 * Completes soft deletes whose writes in flight have ended since, of whatever process; to be called
 * now and then, with the same pool. Returns users finished.
 * @throws what kept a user from being scrubbed, after all others were
 */
export async function finishScrubs(pool: pg.Pool): Promise<number> {
  const query = queryOnPool(pool, false);
  const waiting = WAITING.get(pool) ?? (await beginWaiting(query));
  if (!waiting) return 0;
  WAITING.set(pool, waiting);
  // Judged before the scrub: whatever was waited for is then in the scrub's snapshots.
  const older = await waiting.older.remaining();
  const isOver = older.length === 0;
  const open = older.map(({ transaction }) => transaction).join();
  // Nobody has ended since, so nothing has come: a dump takes hours, and a user may have millions of rows.
  const users = open === waiting.open ? waiting.left : waiting.users;
  const failures = new Map<string, unknown>();
  for (const id of users) {
    try {
      await scrub(query, id);
      if (isOver) await query(finishScrubStatement(id));
    } catch (error) {
      // A row that somebody holds is in this user's way alone.
      if (classifyFailure(error) === 'retry') throw error;
      failures.set(id, error);
    }
  }
  waiting.open = open;
  waiting.left = [...failures.keys()];
  // Whoever is left is begun with anew, beside those who were deleted since.
  if (isOver) WAITING.delete(pool);
  if (failures.size > 0) throw [...failures.values()][0];
  return isOver ? waiting.users.length : 0;
}

async function beginWaiting(query: Query): Promise<Waiting | null> {
  const rows = await query<{ id: string }>(findUnfinishedStatement());
  if (rows.length === 0) return null;
  const older = new OlderTransactions(query, { ignoresBlank: true });
  return { users: rows.map((row) => row.id), older, open: null, left: [] };
}
