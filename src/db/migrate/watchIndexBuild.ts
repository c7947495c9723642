import pg from 'pg';
import type { RunOptions, StepProgress } from './runSteps.js';

const EVERY_MS = 500;
/** A wait for one older transaction is told after this, and again each time as long. */
const TELL_EVERY_POLLS = 20;

/** An index build is done when its blocks are, then its tuples: the phase says which counts. */
const PROGRESS = `
select phase,
  case when blocks_total > 0 then blocks_done else tuples_done end::float8 as done,
  case when blocks_total > 0 then blocks_total else tuples_total end::float8 as expected,
  nullif(current_locker_pid, 0) as "waitsForPid"
from pg_stat_progress_create_index
where pid = $1`;

interface ProgressRow {
  phase: string;
  done: number;
  expected: number;
  waitsForPid: number | null;
}

/** Follows the build that `client` is about to start, over a connection of its own. */
export function watchIndexBuild(
  client: pg.Client,
  progress: StepProgress,
  options: Pick<RunOptions, 'url' | 'log' | 'onStep'>,
): { stop(): Promise<void> } {
  const pid = (client as unknown as { processID: number }).processID;
  const watcher = new pg.Client({
    connectionString: options.url,
    application_name: 'microdollar migrate progress',
    connectionTimeoutMillis: 10_000,
  });
  watcher.on('error', () => {});
  let polls = 0;
  const poll = async () => {
    const result = await watcher.query<ProgressRow>(PROGRESS, [pid]);
    const row = result.rows[0];
    if (row === undefined) return;
    const { waitsForPid, ...shown } = row;
    await options.onStep({ ...progress, ...shown, ...(waitsForPid ? { waitsForPid } : {}) });
    if (waitsForPid !== null && ++polls % TELL_EVERY_POLLS === 0) {
      options.log(
        `${progress.step.subject} waits for process ${waitsForPid} to end its transaction`,
      );
    }
  };
  // Progress is for people: a watcher that fails must not fail the build.
  const connected = watcher.connect().catch(() => {});
  const timer = setInterval(() => void poll().catch(() => {}), EVERY_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      await connected;
      await watcher.end().catch(() => {});
    },
  };
}
