import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { inForm } from './form.js';

/** A statement of the ledger that was seen waiting for a lock. */
export interface WriteWait {
  lockType: string;
  mode: string;
  /** Counter or lookup table whose row it waits for; null for anything else. */
  counterTable: string | null;
  query: string;
  blockerQuery: string | null;
}

/** Writes, answers and folds; not accounts, which may wait. */
const LEDGER_STATEMENTS =
  '^/\\* microdollar\\.(append|recordInPlace|explain|resolveLookups|settle|readBalances|' +
  'exactBalances|openCounters|sweep|noteSweep)';

/**
 * Every ungranted lock of a session that runs a statement of the ledger. Who waits for a *row* holds, or waits
 * for, that row's tuple lock, which names the table; who waits for the end of another insert of
 * the same id (I3) waits for a transaction without one. A relation's extension lock is held for
 * the time of a file write and is no lock on a row.
 */
const WRITE_WAITS = `
select l.locktype as "lockType", l.mode, left(a.query, 80) as query,
  (select t.relation::regclass::text
  from pg_locks as t
  where t.pid = l.pid
    and t.locktype = 'tuple'
    and t.relation::regclass::text not in ('microdollar_usage', 'exa_usage_log')
  limit 1) as "counterTable",
  (select left(b.query, 80)
  from pg_stat_activity as b
  where b.pid = any(pg_blocking_pids(l.pid))
  limit 1) as "blockerQuery"
from pg_locks as l
join pg_stat_activity as a on a.pid = l.pid
where not l.granted
  and l.locktype <> 'extend'
  and a.datname = current_database()
  and a.query ~ $1`;

export interface Sampling {
  waits: WriteWait[];
  samples: number;
}

/** Samples, as often as the server answers, until the work ends. `statements`: a regular expression. */
export async function sampleWriteWaits(
  pool: pg.Pool,
  work: (sampling: Readonly<Sampling>) => Promise<unknown>,
  statements = LEDGER_STATEMENTS,
): Promise<Sampling> {
  const sampling: Sampling = { waits: [], samples: 0 };
  let isDone = false;
  const sampler = (async () => {
    const client = await pool.connect();
    try {
      while (!isDone) {
        const result = await client.query<WriteWait>({
          name: 'write_waits',
          text: WRITE_WAITS,
          values: [statements],
        });
        sampling.waits.push(...result.rows);
        sampling.samples++;
        await sleep(inForm(12, 4));
      }
    } finally {
      client.release();
    }
  })();
  try {
    await work(sampling);
  } finally {
    isDone = true;
    await sampler;
  }
  return sampling;
}
