import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/** A connection of its own whose statements the test steps by hand. */
export interface Session {
  client: pg.Client;
  /** Backend process id. */
  pid: number;
  /** Runs one statement; rows. */
  run<Row = Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]>;
}

export interface Sessions extends AsyncDisposable {
  /** As many as were asked for. */
  all: Session[];
  /** Rolls back and disconnects all, whatever they run or wait for; their backends are gone. */
  close(): Promise<void>;
}

export async function openSessions(url: string, count: number): Promise<Sessions> {
  const all: Session[] = [];
  const close = async () => {
    if (all.length > 0) await disconnect(url, all.splice(0));
  };
  try {
    for (let index = 0; index < count; index++) all.push(await openSession(url, index));
  } catch (error) {
    await close();
    throw error;
  }
  return { all, close, [Symbol.asyncDispose]: close };
}

async function openSession(url: string, index: number): Promise<Session> {
  const client = new pg.Client({
    connectionString: url,
    application_name: `test session ${index}`,
  });
  client.on('error', () => {});
  await client.connect();
  const result = await client.query('select pg_backend_pid() as pid');
  return {
    client,
    pid: result.rows[0].pid,
    run: async <Row>(text: string, values: unknown[] = []) =>
      (await client.query(text, values)).rows as Row[],
  };
}

async function disconnect(url: string, sessions: readonly Session[]): Promise<void> {
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  // Waits for the end of each backend, so that its locks are gone.
  for (const { pid } of sessions)
    await admin.query('select pg_terminate_backend($1, 10000)', [pid]);
  await admin.end();
  await Promise.all(sessions.map(({ client }) => client.end().catch(() => {})));
}

export interface LockWait {
  pid: number;
  /** Table or index; null for waits on a transaction, a tuple of an unknown table, advisory. */
  relation: string | null;
  lockType: string;
  mode: string;
  query: string;
  blockedBy: number[];
}

/** Who waits for a lock in this database at this moment, and for whom. */
export async function lockWaits(pool: pg.Pool): Promise<LockWait[]> {
  const result = await pool.query<LockWait>({
    // Asked again and again: planned once a connection.
    name: 'test_lock_waits',
    text: `
    select l.pid, l.relation::regclass::text as relation, l.locktype as "lockType", l.mode,
      a.query, pg_blocking_pids(l.pid) as "blockedBy"
    from pg_locks as l
    join pg_stat_activity as a on a.pid = l.pid
    where not l.granted
      and a.datname = current_database()
    order by l.pid`,
  });
  return result.rows;
}

/** Whether the session's statement waits for a lock right now. */
export async function isBlocked(pool: pg.Pool, session: Session): Promise<boolean> {
  const result = await pool.query<{ blocked: boolean }>({
    name: 'test_is_blocked',
    text: 'select cardinality(pg_blocking_pids($1)) > 0 as blocked',
    values: [session.pid],
  });
  return result.rows[0]?.blocked ?? false;
}

/** Steps on once the session's statement waits; throws if the statement ends without waiting. */
export async function untilBlocked(
  pool: pg.Pool,
  session: Session,
  statement: Promise<unknown>,
): Promise<void> {
  let ended = false;
  const note = () => {
    ended = true;
  };
  statement.then(note, note);
  while (!(await isBlocked(pool, session))) {
    if (ended) throw new Error(`session ${session.pid}: the statement ended without waiting`);
    await sleep(5);
  }
}

/** Collects lock waits while work runs, which is told of them, for claims that nothing waited (I4). */
export async function lockWaitsDuring(
  pool: pg.Pool,
  work: (seen: readonly LockWait[]) => Promise<unknown>,
  everyMs = 5,
): Promise<LockWait[]> {
  const seen: LockWait[] = [];
  let done = false;
  const sampling = (async () => {
    do {
      seen.push(...(await lockWaits(pool)));
      await sleep(everyMs);
    } while (!done);
  })();
  try {
    await work(seen);
  } finally {
    done = true;
    await sampling;
  }
  return seen;
}
