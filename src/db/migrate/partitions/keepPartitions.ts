import type pg from 'pg';
import { LedgerError } from '../../../errors.js';
import { isNotPermitted } from '../../sqlstate.js';
import { explainFailure } from '../connection.js';
import type { Step } from '../step.js';
import { planPartitions, requirePlan } from './planPartitions.js';
import { readPartitionState } from './state.js';

export interface PartitionChoices {
  /** False: prepare no months. */
  adopt?: boolean | undefined;
  partitionById?: boolean | undefined;
}

export interface KeptPartitions {
  isPartitioned: boolean;
  warnings: string[];
}

/**
 * Partitions the log, if that is asked for, and prepares months of one that is partitioned. Months are
 * for later: that they cannot be prepared now fails nobody who asked for something else.
 * @param run under the lock of whoever migrates
 * @throws LedgerError `internal` with what is in the way, `unavailable`
 */
export async function keepPartitions(
  client: pg.Client,
  { adopt = true, partitionById = false }: PartitionChoices,
  run: (plan: () => Promise<Step[]>) => Promise<void>,
): Promise<KeptPartitions> {
  const warnings: string[] = [];
  const plan = async () => requirePlan(await planPartitions(client, partitionById));
  try {
    if ((adopt || partitionById) && (await plan()).length > 0) await run(plan);
  } catch (error) {
    const isForLater = isNotPermitted(error) || error instanceof LedgerError;
    if (partitionById || !isForLater) throw error;
    const { message } = explainFailure(error);
    warnings.push(`partitions of the months ahead were not prepared: ${message}`);
  }
  return { isPartitioned: (await readPartitionState(client)).kind === 'by id', warnings };
}
