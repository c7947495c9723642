import type { Query } from '../db/query.js';
import type { ProvenRollup } from '../schema/rollups.js';
import { isPausedStatement } from './backfill.sql.js';
import { pause } from './database.js';

const PAUSE_POLL_MS = 500;

/** Returns when the backfill of the rollup is not paused, or the job ends. `onPaused` is called once. */
export async function whilePaused(
  query: Query,
  rollup: Pick<ProvenRollup, 'name'>,
  signal: AbortSignal,
  onPaused: () => void,
): Promise<void> {
  for (let told = false; !signal.aborted; told = true) {
    const [row] = await query<{ is_paused: boolean }>(isPausedStatement(rollup));
    if (!row?.is_paused) return;
    if (!told) onPaused();
    await pause(PAUSE_POLL_MS, signal);
  }
}

/** What is told then. */
export const PAUSED = 'paused; `microdollar backfill --resume` goes on';
