import type pg from 'pg';
import { softDeleteUser } from '../../../src/accounts/softDelete.js';
import { createLedger } from '../../../src/ledger.js';
import { archiveUsage } from '../../../src/rollup/archive/archive.js';
import { runBackfill } from '../../../src/rollup/backfill.js';
import { verifyBalances } from '../../../src/rollup/balances.js';
import { repairRollup } from '../../../src/rollup/repair.js';
import { DAILY_ROLLUP, ROLLUPS } from '../../../src/schema/rollups.js';
import type { Cluster } from '../../faults/support/cluster.js';
import { checkFolded, checkInvariants } from '../../support/checkInvariants.js';
import { type Line, readBooks } from './book.js';
import { IS_FOREIGN, IS_UNFIT, LEAVING } from './cast.js';
import {
  gatherNotes,
  judgeBalances,
  judgeCredits,
  judgeDeleted,
  judgeRows,
  judgeTotals,
} from './judge.js';
import { archiveDir } from './operatorWork.js';
import { readStored } from './stored.js';

export interface Verdict {
  /** Empty: everything held. */
  problems: string[];
  /** How often each thing was done, by what and how. */
  done: ReadonlyMap<string, number>;
  /** Rows and answered totals that were judged. */
  rows: number;
  totals: number;
}

/** Nobody writes any more: what became of it, before and after the last repair and fold. */
export async function verdictOf(cluster: Cluster, dir: string): Promise<Verdict> {
  const { pool } = cluster;
  await endPrepared(pool);
  const problems: string[] = [];
  const find = (when: string, found: readonly string[], leftOut: RegExp = IS_UNFIT) => {
    problems.push(...found.filter((each) => !leftOut.test(each)).map((each) => `${when}: ${each}`));
  };
  find('at rest', await checkInvariants(pool), IS_FOREIGN);
  find('repaired', await readRepairs(pool), IS_FOREIGN);
  for (const user of LEAVING) {
    const { isFinal } = await softDeleteUser(pool, user);
    if (!isFinal) problems.push(`${user}: not deleted for good, though nobody writes`);
  }
  await finish(cluster, archiveDir(dir));
  find('after the backfill', await checkInvariants(pool));
  find('folded', await fold(cluster.url));
  find('folded', await checkFolded(pool));
  const notes = gatherNotes(readBooks(dir));
  const { stored, problems: twice } = await readStored(pool, archiveDir(dir));
  problems.push(
    ...twice,
    ...judgeRows(notes, stored),
    ...judgeTotals(notes, stored),
    ...(await judgeBalances(pool, notes, stored)),
    ...(await judgeCredits(pool, notes)),
    ...(await judgeDeleted(pool, notes)),
  );
  const done = countDone(notes.lines);
  return { problems, done, rows: stored.size, totals: notes.totals.length };
}

async function endPrepared(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ gid: string }>('select gid from pg_prepared_xacts');
  for (const { gid } of rows) await pool.query(`rollback prepared '${gid}'`);
}

async function readRepairs(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ text: string }>(
    `select 'user=' || coalesce(r.kilo_user_id, '') || ' ' || to_jsonb(r)::text as text
    from rollup_repairs as r`,
  );
  return rows.map(({ text }) => text);
}

/** Builds and repairs what foreign programs wrote, and ends an archive that was killed. */
async function finish({ url, pool }: Cluster, directory: string): Promise<void> {
  for (const rollup of ROLLUPS) {
    await runBackfill({ url, rollup });
    await repairRollup({ url, rollup });
  }
  await verifyBalances({ url, repair: true });
  const { rows } = await pool.query<{ until: string | null }>(
    `select ((archive_horizon at time zone 'UTC')::date - 1)::text as until from ledger_settings`,
  );
  const until = rows[0]?.until;
  if (!until) return;
  await repairRollup({ url, rollup: DAILY_ROLLUP, until });
  await archiveUsage({ url, until, directory });
}

async function fold(url: string): Promise<string[]> {
  const ledger = await createLedger({ databaseUrl: url, backgroundFold: false });
  try {
    const { remaining } = await ledger.fold();
    return remaining === 0 ? [] : [`${remaining} rows left unsettled`];
  } finally {
    await ledger.close();
  }
}

function countDone(lines: readonly Line[]): Map<string, number> {
  const done = new Map<string, number>();
  for (const line of lines) {
    const name =
      line.what === 'answered'
        ? `${line.way}: ${line.status}`
        : line.what === 'done'
          ? line.name
          : line.what === 'refused'
            ? `refused ${line.way}`
            : null;
    if (name !== null) done.set(name, (done.get(name) ?? 0) + 1);
  }
  return new Map([...done].sort());
}
