import { openRollupDatabase } from '../rollup/database.js';
import { type ProveReport, repairDimensions } from '../rollup/dimensions/prove.js';
import { describeWayBack, type ReadModeStatus, readReadMode } from '../rollup/readMode.js';
import { type RepairReport, repairRollup } from '../rollup/repair.js';
import type { VerifyOptions } from '../rollup/verify.js';
import { DIMENSION_ROLLUPS } from '../schema/dimensionRollups.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { type CommandDatabase, withMigratedDatabase } from './database.js';
import { formatCount } from './output.js';
import { addRangeOptions, CHECKED_ROLLUPS, jobOptions } from './rollupOptions.js';
import {
  checkBalances,
  checkCombination,
  describeVerify,
  toVerifyDocument,
  type VerifyCommandOptions,
  verify,
  withBar,
} from './verify.js';
import { tellingWhatRan } from './whatRan.js';

export const registerRepair: Register = (command, run) => {
  addRangeOptions(command)
    .option('--user <id>', 'only this user')
    .option('--balances', 'repair the balances of users and organizations instead of the rollups')
    .option('--continue', 'with --balances: go on where a repair was stopped')
    .option('--dry-run', 'say what it would fix, and change nothing')
    .action((options: VerifyCommandOptions) =>
      run((context) => {
        checkCombination(options);
        const isRepair = !options.dryRun;
        if (options.balances) return checkBalances(context, { ...options, repair: isRepair });
        return isRepair ? repair(context, options) : verify(context, options);
      }),
    );
};

async function repair(
  context: CommandContext,
  options: VerifyCommandOptions,
): Promise<CommandStatus> {
  const { output, interruption } = context;
  return withMigratedDatabase(context, async (database) => {
    const reports: RepairReport[] = [];
    await tellingWhatRan(
      output,
      () => ({
        document: {
          found: reports.map((report) => toVerifyDocument(report.found)),
          repaired: reports.reduce((sum, report) => sum + report.repaired, 0),
        },
        text: reports.length === 0 ? '' : describeRepaired(reports),
      }),
      () => repairAll(context, database, options, reports),
    );
    const repaired = reports.reduce((sum, report) => sum + report.repaired, 0);
    const left = reports.reduce((sum, report) => sum + (report.left?.driftKeys ?? 0), 0);
    const unfit = reports.flatMap(({ left }) => left?.drifts.filter(({ fits }) => !fits) ?? []);
    const failures = reports.flatMap(({ found, left }) => (left ?? found).failures);
    const remark = describeRest(left, unfit.length);
    const readMode = await askReadMode(database);
    const wayBack = describeWayBack(readMode);
    output.answer(
      {
        found: reports.map((report) => toVerifyDocument(report.found)),
        repaired,
        left_drift_keys: left,
        unfit_keys: unfit.length,
        failures,
        effective_read_mode: readMode.effective,
        way_back: wayBack,
        ...interruption.fields,
      },
      [
        `${describeRepaired(reports)}${remark}`,
        ...interruption.lines('what was repaired stays; run it again for the rest'),
        ...wayBack,
      ].join('\n'),
    );
    return left === 0 && failures.length === 0 ? 0 : 1;
  });
}

/** Every rollup, one after the other; `reports` has those that were gone through, as far as they came. */
async function repairAll(
  context: CommandContext,
  database: CommandDatabase,
  options: VerifyCommandOptions,
  reports: RepairReport[],
): Promise<void> {
  for (const rollup of CHECKED_ROLLUPS) {
    if (context.interruption.signal.aborted) return;
    const job = jobOptions(context, database, rollup, options);
    const run = (onPeriod: VerifyOptions['onPeriod']) => repairRollup({ ...job, onPeriod });
    reports.push(await withBar(context, `repair ${rollup.name}`, run));
  }
  for (const rollup of DIMENSION_ROLLUPS) {
    if (context.interruption.signal.aborted) return;
    const job = jobOptions(context, database, rollup, options);
    const begun: ProveReport[] = [];
    const onReport = (report: ProveReport) => begun.push(report);
    try {
      await withBar(context, `repair ${rollup.name}`, (onPeriod) =>
        repairDimensions({ ...job, onPeriod, onReport }),
      );
    } finally {
      // Of a job that failed too, as far as it came.
      reports.push(...begun.map(repairedOf));
    }
  }
}

const repairedOf = ({ found, locked, left, changed }: ProveReport): RepairReport => ({
  found,
  locked,
  left,
  repaired: changed,
});

function describeRepaired(reports: readonly RepairReport[]): string {
  const found = reports.map((report) => report.found);
  const repaired = reports.reduce((sum, report) => sum + report.repaired, 0);
  return `${describeVerify(found, { found: 'drift found' })}\nrepaired ${formatCount(repaired)}`;
}

async function askReadMode({ url, viaPooler }: CommandDatabase): Promise<ReadModeStatus> {
  const database = openRollupDatabase(url, 1, { viaPooler });
  try {
    return await readReadMode(database.query);
  } finally {
    await database.close();
  }
}

function describeRest(left: number, unfit: number): string {
  if (left === 0) return '';
  if (left === unfit) return `; ${formatCount(left)} left: no counter row can hold their total`;
  return `; ${formatCount(left)} left, held by other sessions: run it again`;
}
