import type { BackfillProgress, BackfillReport } from '../rollup/backfillTypes.js';
import type { ProveReport } from '../rollup/dimensions/prove.js';
import type { CommandContext } from './context.js';
import { alignTable, formatCount } from './output.js';
import { startProgress } from './progress.js';
import type { WhatRan } from './whatRan.js';

export type RollupReport = BackfillReport & { rollup: string };

/** Of a rollup by dimension: a day is looked at, and set right where it is wrong. */
export function toBackfillReport(
  { found, wrongDays, changed, left }: ProveReport,
  longestTransactionMs: number,
): BackfillReport {
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

export function describeBackfill(reports: readonly RollupReport[]): WhatRan {
  return {
    document: { rollups: reports.map(toDocument) },
    text: alignTable(
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
  };
}

function toDocument(report: RollupReport) {
  return {
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
  };
}

/** What stays to be done, in words. */
export function describeLeft(reports: readonly RollupReport[]): string[] {
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
  return lines;
}

/** A bar on a terminal, or JSON lines on stderr: stdout belongs to the answer. */
export function showProgress(context: CommandContext, name: string, form: 'bar' | 'json') {
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
