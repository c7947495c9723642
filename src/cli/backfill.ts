import { Option } from 'commander';
import { planBackfill, runBackfill, setBackfillPaused } from '../rollup/backfill.js';
import type { BackfillPlan, BackfillReport } from '../rollup/backfillTypes.js';
import { openRollupDatabase } from '../rollup/database.js';
import { buildDimensions, planDimensions } from '../rollup/dimensions/build.js';
import type { ProveReport } from '../rollup/dimensions/prove.js';
import { DIMENSION_ROLLUPS } from '../schema/dimensionRollups.js';
import {
  describeBackfill,
  describeLeft,
  type RollupReport,
  showProgress,
  toBackfillReport,
} from './backfillReport.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { type CommandDatabase, withMigratedDatabase } from './database.js';
import { formatCount } from './output.js';
import {
  addRangeOptions,
  CHECKED_ROLLUPS,
  jobOptions,
  type RollupOptions,
  rangeOf,
} from './rollupOptions.js';
import { tellingWhatRan } from './whatRan.js';

interface BackfillCommandOptions extends RollupOptions {
  pause?: true;
  resume?: true;
  dryRun?: true;
  progress: 'bar' | 'json';
}

export const registerBackfill: Register = (command, run) => {
  addRangeOptions(command)
    .option('--dry-run', 'say what there is to do, and do nothing')
    .option('--pause', 'pause every running backfill, wherever it runs')
    .addOption(new Option('--resume', 'let paused backfills go on').conflicts('pause'))
    .addOption(
      new Option('--progress <form>', 'json: one JSON object a line on stderr')
        .choices(['bar', 'json'])
        .default('bar'),
    )
    .action((options: BackfillCommandOptions) =>
      run((context) => {
        if (options.pause || options.resume) return setPaused(context, options.pause === true);
        if (options.dryRun) return plan(context, options);
        return backfill(context, options);
      }),
    );
};

async function backfill(
  context: CommandContext,
  options: BackfillCommandOptions,
): Promise<CommandStatus> {
  const { output, interruption } = context;
  return withMigratedDatabase(context, async (database) => {
    const reports: RollupReport[] = [];
    await tellingWhatRan(
      output,
      () => ({
        ...describeBackfill(reports),
        ...(reports.length === 0 ? { text: '' } : {}),
      }),
      () => build(context, database, options, reports),
    );
    const left = reports.reduce((sum, report) => sum + report.left, 0);
    const failures = reports.flatMap((report) => report.failures);
    const { document, text } = describeBackfill(reports);
    const remarks = [
      ...describeLeft(reports),
      ...interruption.lines('what was built stays; `backfill` again goes on'),
    ];
    if (remarks.length === 0) remarks.push('next: `verify`, then `read-mode`');
    output.answer({ ...document, ...interruption.fields }, [text, ...remarks].join('\n'));
    return left === 0 && failures.length === 0 ? 0 : 1;
  });
}

/** Every rollup, one after the other; `reports` grow while they are built. */
async function build(
  context: CommandContext,
  database: CommandDatabase,
  options: BackfillCommandOptions,
  reports: RollupReport[],
): Promise<void> {
  const { signal } = context.interruption;
  for (const [place, rollup] of CHECKED_ROLLUPS.entries()) {
    if (signal.aborted) return;
    const show = showProgress(context, rollup.name, options.progress);
    const keep = (report: BackfillReport) => {
      reports[place] = Object.assign(report, { rollup: rollup.name });
    };
    try {
      await runBackfill({
        ...jobOptions(context, database, rollup, options),
        onProgress: show.update,
        onReport: keep,
      });
    } finally {
      show.stop();
    }
  }
  for (const [index, rollup] of DIMENSION_ROLLUPS.entries()) {
    if (signal.aborted) return;
    const show = showProgress(context, rollup.name, options.progress);
    let ran: ProveReport | null = null;
    let longestTransactionMs = 0;
    try {
      const report = await buildDimensions({
        ...jobOptions(context, database, rollup, options),
        onProgress: show.update,
        onReport: (report) => {
          ran = report;
        },
      });
      ran = report;
      longestTransactionMs = report.longestTransactionMs;
    } finally {
      show.stop();
      if (ran !== null) {
        const place = CHECKED_ROLLUPS.length + index;
        reports[place] = {
          rollup: rollup.name,
          ...toBackfillReport(ran, longestTransactionMs),
        };
      }
    }
  }
}

async function plan(
  context: CommandContext,
  options: BackfillCommandOptions,
): Promise<CommandStatus> {
  return withMigratedDatabase(context, async ({ url, viaPooler }) => {
    const database = { url, viaPooler, ...rangeOf(options) };
    const plans: ReturnType<typeof toPlanDocument>[] = [];
    for (const rollup of CHECKED_ROLLUPS) {
      plans.push(toPlanDocument(rollup.name, await planBackfill({ ...database, rollup })));
    }
    for (const rollup of DIMENSION_ROLLUPS) {
      plans.push(toPlanDocument(rollup.name, await planDimensions({ ...database, rollup })));
    }
    context.output.answer(
      { dry_run: true, rollups: plans },
      plans
        .map(
          (each) =>
            `${each.rollup}: ${formatCount(each.unbuilt_periods)} periods to build and ` +
            `${formatCount(each.periods_to_check)} to look at again, ${each.from} to ` +
            `${each.until}, about ${formatCount(each.raw_rows_expected)} raw rows`,
        )
        .join('\n'),
    );
    return 0;
  });
}

function toPlanDocument(
  rollup: string,
  { from, until, periods, toCheck, rowsExpected }: BackfillPlan,
) {
  return {
    rollup,
    from,
    until,
    unbuilt_periods: periods,
    periods_to_check: toCheck,
    raw_rows_expected: rowsExpected,
  };
}

async function setPaused(context: CommandContext, isPaused: boolean): Promise<CommandStatus> {
  return withMigratedDatabase(context, async ({ url, viaPooler }) => {
    const database = openRollupDatabase(url, 1, { viaPooler });
    try {
      for (const rollup of [...CHECKED_ROLLUPS, ...DIMENSION_ROLLUPS]) {
        await setBackfillPaused(database, rollup, isPaused);
      }
    } finally {
      await database.close();
    }
    context.output.answer(
      { is_paused: isPaused },
      isPaused
        ? 'paused: running backfills stop after their chunk; `backfill --resume` lets them go on'
        : 'resumed',
    );
    return 0;
  });
}
