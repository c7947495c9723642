import { Option } from 'commander';
import { planBackfill, runBackfill, setBackfillPaused } from '../rollup/backfill.js';
import type { BackfillPlan, BackfillProgress, BackfillReport } from '../rollup/backfillTypes.js';
import { openRollupDatabase } from '../rollup/database.js';
import { type BuildOptions, buildDimensions, planDimensions } from '../rollup/dimensions/build.js';
import { DIMENSION_ROLLUPS } from '../schema/dimensionRollups.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { alignTable, formatCount } from './output.js';
import { startProgress } from './progress.js';
import {
  addRangeOptions,
  CHECKED_ROLLUPS,
  jobOptions,
  type RollupOptions,
  rangeOf,
} from './rollupOptions.js';

interface BackfillCommandOptions extends RollupOptions {
  pause?: true;
  resume?: true;
  dryRun?: true;
  progress: 'bar' | 'json';
}

export const registerBackfill: Register = (program, run) => {
  addRangeOptions(
    program
      .command('backfill')
      .description('build the rollup for history, beside live writers; a second run goes on'),
  )
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
  const { output } = context;
  return withMigratedDatabase(context, async (database) => {
    const reports: (BackfillReport & { rollup: string })[] = [];
    for (const rollup of CHECKED_ROLLUPS) {
      const show = showProgress(context, rollup.name, options.progress);
      try {
        const report = await runBackfill({
          ...jobOptions(context, database, rollup, options),
          onProgress: show.update,
        });
        reports.push({ rollup: rollup.name, ...report });
      } finally {
        show.stop();
      }
    }
    for (const rollup of DIMENSION_ROLLUPS) {
      const show = showProgress(context, rollup.name, options.progress);
      try {
        const report = await buildReport({
          ...jobOptions(context, database, rollup, options),
          onProgress: show.update,
        });
        reports.push({ rollup: rollup.name, ...report });
      } finally {
        show.stop();
      }
    }
    const left = reports.reduce((sum, report) => sum + report.left, 0);
    const failures = reports.flatMap((report) => report.failures);
    output.answer(
      {
        rollups: reports.map((report) => ({
          rollup: report.rollup,
          periods: report.periods,
          checked: report.checked,
          raw_rows: report.rows,
          keys: report.keys,
          created: report.created,
          corrected: report.corrected,
          left: report.left,
          unfit: report.unfit,
          failures: report.failures,
          longest_transaction_ms: Math.round(report.longestTransactionMs),
          duration_ms: Math.round(report.durationMs),
        })),
      },
      [
        alignTable(
          [
            ['rollup', 'built', 'checked', 'raw rows', 'created', 'corrected', 'left', 'seconds'],
            ...reports.map((report) => [
              report.rollup,
              formatCount(report.periods),
              formatCount(report.checked),
              formatCount(report.rows),
              formatCount(report.created),
              formatCount(report.corrected),
              formatCount(report.left),
              (report.durationMs / 1000).toFixed(1),
            ]),
          ],
          [1, 2, 3, 4, 5, 6, 7],
        ),
        ...describeLeft(reports),
      ].join('\n'),
    );
    return left === 0 && failures.length === 0 ? 0 : 1;
  });
}

/** Of a rollup by dimension: a day is looked at, and set right where it is wrong. */
async function buildReport(options: BuildOptions): Promise<BackfillReport> {
  const { found, wrongDays, changed, left, longestTransactionMs } = await buildDimensions(options);
  return {
    periods: wrongDays,
    checked: found.periods - wrongDays,
    rows: found.rows,
    keys: found.keys,
    created: changed,
    corrected: 0,
    left: left?.driftKeys ?? 0,
    unfit: 0,
    failures: found.failures,
    longestTransactionMs,
    durationMs: found.durationMs,
  };
}

/** What stays to be done, in words; or what comes next. */
function describeLeft(reports: readonly (BackfillReport & { rollup: string })[]): string[] {
  const held = reports.reduce((sum, report) => sum + report.left - report.unfit, 0);
  const unfit = reports.reduce((sum, report) => sum + report.unfit, 0);
  const lines = reports.flatMap(({ rollup, failures }) =>
    failures.map(({ period, message }) => `failed: ${rollup}, ${period}: ${message}`),
  );
  if (held > 0) lines.push('rows held by other sessions were left; run `backfill` again');
  if (unfit > 0) {
    lines.push(
      `${formatCount(unfit)} keys sum to more than a counter row holds; \`verify\` names them`,
    );
  }
  return lines.length === 0 ? ['next: `verify`, then `read-mode`'] : lines;
}

/** A bar on a terminal, or JSON lines on stderr: stdout belongs to the answer. */
function showProgress(context: CommandContext, name: string, form: 'bar' | 'json') {
  const { output } = context;
  if (form === 'json') {
    return {
      update: (progress: BackfillProgress) =>
        output.streams.stderr.write(`${JSON.stringify({ rollup: name, ...toJson(progress) })}\n`),
      stop: () => {},
    };
  }
  let bar: ReturnType<typeof startProgress> | null = null;
  return {
    update: (progress: BackfillProgress) => {
      bar ??= startProgress(output, `backfill ${name}`, progress.periodsTotal, 'periods');
      bar.update(progress.periodsDone, {
        rate: `${formatCount(progress.rowsPerSecond)} rows/s${progress.isPaused ? ', paused' : ''}`,
      });
    },
    stop: () => bar?.stop(),
  };
}

function toJson(progress: BackfillProgress) {
  return {
    period: progress.period,
    periods_done: progress.periodsDone,
    periods_total: progress.periodsTotal,
    rows_done: progress.rowsDone,
    rows_expected: progress.rowsExpected,
    rows_per_second: progress.rowsPerSecond,
    eta_seconds: progress.etaSeconds,
    is_paused: progress.isPaused,
  };
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
