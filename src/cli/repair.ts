import { type RepairReport, repairRollup } from '../rollup/repair.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { formatCount } from './output.js';
import { addRangeOptions, CHECKED_ROLLUPS, rangeOf } from './rollupOptions.js';
import {
  checkBalances,
  describeVerify,
  toVerifyDocument,
  type VerifyCommandOptions,
} from './verify.js';

export const registerRepair: Register = (program, run) => {
  addRangeOptions(
    program
      .command('repair')
      .description('fix exactly what verify finds; every correction is kept in rollup_repairs'),
  )
    .option('--user <id>', 'only this user')
    .option('--balances', 'repair the balances of users and organizations instead of the rollups')
    .option('--continue', 'with --balances: go on where a repair was stopped')
    .action((options: VerifyCommandOptions) =>
      run((context) =>
        options.balances
          ? checkBalances(context, { ...options, repair: true })
          : repair(context, options),
      ),
    );
};

async function repair(
  context: CommandContext,
  options: VerifyCommandOptions,
): Promise<CommandStatus> {
  return withMigratedDatabase(context, async ({ url }) => {
    const reports: RepairReport[] = [];
    for (const rollup of CHECKED_ROLLUPS) {
      reports.push(
        await repairRollup({
          url,
          rollup,
          workers: options.workers,
          ...rangeOf(options),
          ...(options.user === undefined ? {} : { kiloUserId: options.user }),
          onNotice: (message) => context.output.note(message),
        }),
      );
    }
    const repaired = reports.reduce((sum, report) => sum + report.repaired, 0);
    const left = reports.reduce((sum, report) => sum + (report.left?.driftKeys ?? 0), 0);
    const remark =
      left === 0 ? '' : `; ${formatCount(left)} left, held by other sessions: run it again`;
    context.output.answer(
      {
        found: reports.map((report) => toVerifyDocument(report.found)),
        repaired,
        left_drift_keys: left,
      },
      `${describeVerify(reports.map((report) => report.found))}\n` +
        `repaired ${formatCount(repaired)}${remark}`,
    );
    return left === 0 ? 0 : 1;
  });
}
