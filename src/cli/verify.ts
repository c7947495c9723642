import { LedgerError } from '../errors.js';
import { toJsonInteger } from '../money.js';
import { type BalanceReport, verifyBalances } from '../rollup/balances.js';
import { verifyDimensions } from '../rollup/dimensions/prove.js';
import { type Drift, type VerifyReport, verifyRollup } from '../rollup/verify.js';
import { DIMENSION_ROLLUPS } from '../schema/dimensionRollups.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { type CommandDatabase, withMigratedDatabase } from './database.js';
import { alignTable, formatAmount, formatCount } from './output.js';
import { type Progress, startProgress } from './progress.js';
import {
  addRangeOptions,
  CHECKED_ROLLUPS,
  jobOptions,
  type RollupOptions,
} from './rollupOptions.js';
import { tellingWhatRan } from './whatRan.js';

export interface VerifyCommandOptions extends RollupOptions {
  balances?: true;
  continue?: true;
  dryRun?: true;
}

/** Drifts shown to a person; with `--json` all that were kept. */
const SHOWN = 20;

export const registerVerify: Register = (command, run) => {
  addRangeOptions(command)
    .option('--user <id>', 'only this user')
    .option('--balances', 'check the balances of users and organizations instead of the rollups')
    .option('--continue', 'with --balances: go on where a check was stopped')
    .action((options: VerifyCommandOptions) =>
      run((context) => {
        checkCombination(options);
        return options.balances ? checkBalances(context, options) : verify(context, options);
      }),
    );
};

/** What would be left out of account is refused. @throws LedgerError `invalid_request` */
export function checkCombination(options: VerifyCommandOptions): void {
  const refuse = (field: string, problem: string) => {
    throw new LedgerError('invalid_request', `--${field} ${problem}`, { details: { field } });
  };
  if (options.continue && !options.balances) refuse('continue', 'goes with --balances');
  for (const field of ['from', 'until'] as const) {
    if (options.balances && options[field] !== undefined) {
      refuse(field, 'does not go with --balances, which are of all days; leave it out');
    }
  }
}

export async function verify(
  context: CommandContext,
  options: VerifyCommandOptions,
): Promise<CommandStatus> {
  const { output, interruption } = context;
  return withMigratedDatabase(context, async (database) => {
    const reports: VerifyReport[] = [];
    let isWhole = false;
    const describe = () => ({
      document: {
        ...(options.dryRun ? { dry_run: true } : {}),
        rollups: reports.map(toVerifyDocument),
        drift_keys: reports.reduce((sum, report) => sum + report.driftKeys, 0),
      },
      text: reports.length === 0 ? '' : describeVerify(reports, { isWhole }),
    });
    await tellingWhatRan(output, describe, () => verifyAll(context, database, options, reports));
    isWhole = !interruption.signal.aborted;
    const failures = reports.flatMap((report) => report.failures);
    const { document, text } = describe();
    output.answer(
      { ...document, ...interruption.fields },
      [text, ...interruption.lines('the rest was not compared; run it again')].join('\n'),
    );
    return document.drift_keys === 0 && failures.length === 0 ? 0 : 1;
  });
}

/** Every rollup, one after the other; `reports` grow while they are compared. */
async function verifyAll(
  context: CommandContext,
  database: CommandDatabase,
  options: VerifyCommandOptions,
  reports: VerifyReport[],
): Promise<void> {
  const onReport = (report: VerifyReport) => reports.push(report);
  for (const rollup of CHECKED_ROLLUPS) {
    if (context.interruption.signal.aborted) return;
    const job = jobOptions(context, database, rollup, options);
    await withBar(context, `verify ${rollup.name}`, (onPeriod) =>
      verifyRollup({ ...job, onReport, onPeriod }),
    );
  }
  for (const rollup of DIMENSION_ROLLUPS) {
    if (context.interruption.signal.aborted) return;
    const job = jobOptions(context, database, rollup, options);
    await withBar(context, `verify ${rollup.name}`, (onPeriod) =>
      verifyDimensions({ ...job, onReport, onPeriod }),
    );
  }
}

/** Shows the periods that are done. */
export async function withBar<T>(
  { output }: CommandContext,
  label: string,
  run: (onPeriod: (period: string, done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  let bar: Progress | null = null;
  try {
    return await run((_period, done, total) => {
      bar ??= startProgress(output, label, total, 'periods');
      bar.update(done);
    });
  } finally {
    (bar as Progress | null)?.stop();
  }
}

export function toVerifyDocument(report: VerifyReport) {
  return {
    rollup: report.rollup,
    periods: report.periods,
    raw_rows: report.rows,
    keys: report.keys,
    drift_keys: report.driftKeys,
    drift_microdollars: toJsonInteger(report.driftMicrodollars),
    duration_ms: Math.round(report.durationMs),
    drifts: report.drifts.map(toDriftDocument),
    failures: report.failures,
  };
}

function toDriftDocument(drift: Drift) {
  return {
    kind: drift.kind,
    kilo_user_id: drift.kiloUserId,
    organization_id: drift.organizationId,
    period: drift.period,
    reported_microdollars: toJsonInteger(drift.reportedMicrodollars),
    true_microdollars: toJsonInteger(drift.trueMicrodollars),
    drift_microdollars: toJsonInteger(drift.driftMicrodollars),
    request_drift: drift.requestDrift,
    likely_cause: drift.likelyCause,
    repairable: drift.fits,
  };
}

function requestsOf({ requestDrift }: Drift): string {
  if (requestDrift === 0) return '';
  const sign = requestDrift > 0 ? '+' : '';
  return `, ${sign}${formatCount(requestDrift)} ${Math.abs(requestDrift) === 1 ? 'request' : 'requests'}`;
}

export function describeVerify(
  reports: readonly VerifyReport[],
  { found = 'drift found; `repair` fixes exactly these keys', isWhole = true } = {},
): string {
  const table = alignTable(
    [
      ['rollup', 'periods', 'raw rows', 'keys', 'wrong', 'drift', 'seconds'],
      ...reports.map((report) => [
        report.rollup,
        formatCount(report.periods),
        formatCount(report.rows),
        formatCount(report.keys),
        formatCount(report.driftKeys),
        formatAmount(report.driftMicrodollars),
        (report.durationMs / 1000).toFixed(1),
      ]),
    ],
    [1, 2, 3, 4, 5, 6],
  );
  const drifts = reports.flatMap((report) => report.drifts);
  const lines = drifts.slice(0, SHOWN).map((drift) => {
    const scope = drift.organizationId === null ? '' : `, organization ${drift.organizationId}`;
    return (
      `${drift.kind} in ${drift.rollup}: ${drift.kiloUserId}${scope}, ${drift.period}: reported ` +
      `${formatAmount(drift.reportedMicrodollars)}, true ${formatAmount(drift.trueMicrodollars)}, ` +
      `drift ${formatAmount(drift.driftMicrodollars)}${requestsOf(drift)}; ${drift.likelyCause}`
    );
  });
  const total = reports.reduce((sum, report) => sum + report.driftKeys, 0);
  if (total > lines.length) lines.push(`and ${formatCount(total - lines.length)} more`);
  const failed = reports.flatMap(({ rollup, failures }) =>
    failures.map(({ period, message }) => `not verified: ${rollup}, ${period}: ${message}`),
  );
  const limit = isWhole ? '' : ' in what was compared';
  const clean = `no drift${failed.length === 0 ? limit : ' in what could be verified'}`;
  const verdict = total === 0 ? clean : found;
  return [table, ...lines, ...failed, verdict].join('\n');
}

/** `verify --balances` and `repair --balances`. */
export async function checkBalances(
  context: CommandContext,
  options: VerifyCommandOptions & { repair?: boolean },
): Promise<CommandStatus> {
  const { output, interruption } = context;
  return withMigratedDatabase(context, async ({ url, viaPooler }) => {
    const report = await verifyBalances({
      url,
      viaPooler,
      signal: interruption.gracefully(),
      repair: options.repair ?? false,
      resume: options.continue ?? false,
      id: options.user,
      onNotice: (message) => output.note(message),
    });
    output.answer(
      { ...toBalanceDocument(report), ...interruption.fields },
      [
        describeBalances(report),
        ...interruption.lines('`--balances --continue` goes on where it ended'),
      ].join('\n'),
    );
    const { drifted, repaired, unopened, failures } = report;
    return drifted === repaired && unopened === 0 && failures.length === 0 ? 0 : 1;
  });
}

function toBalanceDocument(report: BalanceReport) {
  return {
    checked: report.checked,
    drifted: report.drifted,
    repaired: report.repaired,
    openings_derived: report.opened,
    openings_unknown: report.unopened,
    drifts: report.drifts.map((drift) => ({
      scope: drift.scope,
      id: drift.id,
      reported_microdollars: toJsonInteger(drift.reportedMicrodollars),
      true_microdollars: toJsonInteger(drift.trueMicrodollars),
      drift_microdollars: toJsonInteger(drift.driftMicrodollars),
    })),
    failures: report.failures,
  };
}

function describeBalances(report: BalanceReport): string {
  const lines = report.drifts
    .slice(0, SHOWN)
    .map(
      (drift) =>
        `${drift.scope} ${drift.id}: reported ${formatAmount(drift.reportedMicrodollars)}, true ` +
        `${formatAmount(drift.trueMicrodollars)}, drift ${formatAmount(drift.driftMicrodollars)}`,
    );
  if (report.drifted > lines.length) {
    lines.push(`and ${formatCount(report.drifted - lines.length)} more`);
  }
  if (report.unopened > 0) {
    lines.push(
      `${formatCount(report.unopened)} adopted payers have no opening balance yet; ` +
        '`repair --balances` derives it from what their rows say today',
    );
  }
  for (const { scope, id, message } of report.failures.slice(0, SHOWN)) {
    lines.push(`failed: ${scope} ${id}: ${message}`);
  }
  if (report.opened > 0) lines.push(`${formatCount(report.opened)} opening balances derived`);
  const { checked, drifted, repaired } = report;
  const verdict = `${formatCount(checked)} payers checked, ${formatCount(drifted)} wrong`;
  const remedy = drifted === 0 ? '' : '; `repair --balances` fixes exactly these';
  return [
    ...lines,
    repaired > 0 ? `${verdict}, ${formatCount(repaired)} repaired` : verdict + remedy,
  ].join('\n');
}
