import type { BackgroundTask, StartTask } from '../../../background.js';
import { isNotPermitted } from '../../sqlstate.js';
import { connectToMigrate, explainFailure, underLock } from '../connection.js';
import { runSteps } from '../runSteps.js';
import { countMonthsAhead } from './planMonths.js';
import { planPartitions, requirePlan } from './planPartitions.js';
import { readPartitionState } from './state.js';

const HOUR_MS = 3_600_000;
const LOCK_TIMEOUT_MS = 500;
const ATTEMPTS = 30;
const WAIT_FOR_OTHERS_MS = 60_000;

/**
 * Prepares months of a ledger that is partitioned, beside its writers, where some are due. A role that
 * may not leaves it to `migrate`.
 * @throws LedgerError; `internal` only when nobody has done it and no month is left
 */
export async function prepareMonths(url: string): Promise<void> {
  const client = await connectToMigrate(url, LOCK_TIMEOUT_MS);
  const plan = async () => requirePlan(await planPartitions(client, false));
  try {
    if ((await plan()).length === 0) return;
    const options = { url, lockTimeoutMs: LOCK_TIMEOUT_MS, attempts: ATTEMPTS, ...SILENT };
    await underLock(client, { waitTimeoutMs: WAIT_FOR_OTHERS_MS, log: SILENT.log }, async () => {
      await runSteps(client, await plan(), options);
    });
  } catch (error) {
    const isLeft = isNotPermitted(error) && countMonthsAhead(await readPartitionState(client)) > 0;
    if (!isLeft) throw explainFailure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

const SILENT = { log: () => {}, onStep: () => {} };

export interface PreparingOptions {
  url: string;
  /** A pooler would hand the session's lock to somebody else: then `migrate` alone prepares. */
  viaPooler: boolean;
  start: StartTask;
}

/** The same about once an hour; the first time after some. */
export function startPreparingMonths({ url, viaPooler, start }: PreparingOptions): BackgroundTask {
  return start({
    name: 'partitions',
    intervalMs: () => HOUR_MS * (0.75 + Math.random() / 2),
    restsFirst: true,
    run: async () => {
      if (!viaPooler) await prepareMonths(url);
    },
  });
}
