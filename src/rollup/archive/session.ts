import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { setUnlimited } from '../../db/transaction.js';
import { LedgerError } from '../../errors.js';
import type { RollupDatabase } from '../database.js';

/** Class of the advisory lock that a running archive holds; its key is the ledger, by a table's oid. */
const LOCK_CLASS = 1_297_369_171;
/** A killed archive's connection is closed by its server within a statement's time. */
const MAX_LOCK_WAIT_MS = 10_000;
const POLL_MS = 200;

/**
 * The one connection on which an archive deletes. It holds the archive's advisory lock, so
 * whoever has lost the lock has lost the means to delete as well.
 * @throws LedgerError `unavailable` while another archive runs
 */
export async function withArchiveSession<T>(
  database: RollupDatabase,
  waitMs: number,
  run: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await database.pool.connect();
  try {
    if (!database.viaPooler) await setUnlimited(client);
    await lock(client, Math.min(waitMs, MAX_LOCK_WAIT_MS));
    return await run(client);
  } finally {
    // Closed, not returned: that ends the lock whatever state the connection is in.
    client.release(true);
  }
}

/** A connection that reads for files. It deletes nothing, so it needs no lock. */
export async function withReader<T>(
  database: RollupDatabase,
  run: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await database.pool.connect();
  let isWhole = false;
  try {
    if (!database.viaPooler) await setUnlimited(client);
    const result = await run(client);
    isWhole = true;
    return result;
  } finally {
    client.release(!isWhole);
  }
}

async function lock(client: pg.PoolClient, waitMs: number): Promise<void> {
  const deadlineMs = performance.now() + waitMs;
  for (;;) {
    const { rows } = await client.query<{ locked: boolean; holder: number | null }>(
      `/* microdollar.lockArchive */
select pg_try_advisory_lock($1::integer, 'ledger_settings'::regclass::integer) as locked,
  (
    select l.pid
    from pg_locks as l
    join pg_database as d on d.oid = l.database
    where l.locktype = 'advisory'
      and l.classid = $1::integer::oid
      and l.objid = 'ledger_settings'::regclass::oid
      and l.granted
      and d.datname = current_database()
    limit 1
  ) as holder`,
      [LOCK_CLASS],
    );
    if (rows[0]?.locked) return;
    if (performance.now() > deadlineMs) {
      throw new LedgerError(
        'unavailable',
        `another archive is running on this database (pid ${rows[0]?.holder ?? 'unknown'})`,
      );
    }
    await sleep(POLL_MS);
  }
}
