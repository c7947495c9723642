import { LedgerError } from '../../../errors.js';
import type { Queryable } from '../journal.js';
import { quote, type Step } from '../step.js';
import { USAGE } from './months.js';
import { dropTable, planMonths, readTables } from './planMonths.js';
import { swap } from './planSwap.js';
import { findIdProblem } from './recentIds.js';
import { type PartitionState, readPartitionState } from './state.js';
import { findTableProblems, readUsageTable } from './usageTable.js';

export interface PartitionPlan {
  steps: Step[];
  /** Why the log cannot be partitioned; with any, nothing is changed. */
  problems: string[];
  warnings: string[];
}

const NOTHING: PartitionPlan = { steps: [], problems: [], warnings: [] };

/**
 * What is left to do so that the log is partitioned by its ids, if that is asked for, and has its months
 * ahead, if it is. Reads the catalog, and when asked the newest ids; changes nothing.
 */
export async function planPartitions(
  database: Queryable,
  isAsked: boolean,
): Promise<PartitionPlan> {
  const state = await readPartitionState(database);
  if (state.kind === 'by id') {
    const steps = [...(state.isAnalyzed ? [] : [analyze(state)]), ...planMonths(state)];
    return refuseRows(database, state, steps);
  }
  if (!isAsked || state.kind === 'none') return NOTHING;
  if (state.kind === 'other') {
    return { ...NOTHING, problems: [`${USAGE} is partitioned already, and not by this command`] };
  }
  const table = await readUsageTable(database);
  const idProblem = await findIdProblem(database);
  const problems = [...findTableProblems(table), ...(idProblem === null ? [] : [idProblem])];
  if (problems.length > 0) return { ...NOTHING, problems };
  return refuseRows(database, state, [swap(table), analyze(state), ...planMonths(state)]);
}

/** A table of a month's name that is made anew: with rows, it is not of a run that was ended. */
async function refuseRows(
  database: Queryable,
  { detached }: PartitionState,
  steps: Step[],
): Promise<PartitionPlan> {
  const problems: string[] = [];
  for (const name of detached) {
    if (!steps.some(({ statements }) => statements.includes(dropTable(name)))) continue;
    const { rows } = await database.query(`select exists (select from ${quote(name)}) as found`);
    if ((rows[0] as { found: boolean }).found) {
      problems.push(`${name} has rows, and is no partition: rename it, or attach it`);
    }
  }
  return problems.length > 0 ? { ...NOTHING, problems } : { ...NOTHING, steps };
}

/** Before there are months: one that was seen to be empty would be read whole while it fills. */
const analyze = (state: PartitionState): Step => ({
  kind: 'analyze',
  subject: `${USAGE} over its partitions`,
  tables: readTables(state),
  lock: 'SHARE UPDATE EXCLUSIVE',
  duration: 'long',
  isConcurrent: true,
  statements: [`analyze ${USAGE}`],
});

/** @throws LedgerError `internal` with everything that is in the way */
export function requirePlan({ steps, problems }: PartitionPlan): Step[] {
  if (problems.length === 0) return steps;
  throw new LedgerError(
    'internal',
    ['this ledger cannot be partitioned as it is; nothing was changed:', ...problems].join('\n- '),
    { details: { problems } },
  );
}
