import type pg from 'pg';
import { runStatement } from './runStatement.js';

/** Uses are written together, so one write a key and interval, however many requests. */
const FLUSH_MS = 20_000;
/** Keys remembered between two writes; of more, the last use of some is told late. */
const MAX_KEYS = 50_000;

interface Uses {
  /** Key id -> the last use, ms. */
  at: Map<string, number>;
  timer: NodeJS.Timeout | null;
}

const uses = new WeakMap<pg.Pool, Uses>();

/** Remembers that a key was used; kept in `api_keys.last_used_at` soon after, off the request's path. */
export function noteKeyUse(pool: pg.Pool, keyId: string): void {
  let noted = uses.get(pool);
  if (noted === undefined) {
    noted = { at: new Map(), timer: null };
    uses.set(pool, noted);
  }
  if (noted.at.size >= MAX_KEYS && !noted.at.has(keyId)) return;
  noted.at.set(keyId, Date.now());
  noted.timer ??= setTimeout(() => void writeKeyUses(pool), FLUSH_MS).unref();
}

/**
 * Writes what was noted now. Rows that others hold are left, and a failure is no one's: the next use
 * says it again.
 */
export async function writeKeyUses(pool: pg.Pool): Promise<void> {
  const noted = uses.get(pool);
  if (noted === undefined || noted.at.size === 0) return;
  const ids = [...noted.at.keys()];
  const instants = [...noted.at.values()].map((ms) => new Date(ms).toISOString());
  noted.at.clear();
  if (noted.timer !== null) clearTimeout(noted.timer);
  noted.timer = null;
  if (pool.ending) return;
  await runStatement(
    pool,
    `/* accounts.writeKeyUses */
     with used as (
       select u.id, u.at
       from unnest($1::uuid[], $2::timestamptz[]) as u(id, at)
     ), free as (
       select k.id
       from api_keys as k
       where k.id in (select id from used)
       order by k.id
       for no key update skip locked
     )
     update api_keys as k
     set last_used_at = greatest(k.last_used_at, used.at)
     from used
     join free on free.id = used.id
     where k.id = used.id`,
    [ids, instants],
  ).catch(() => {});
}
