import { InvalidArgumentError, Option } from 'commander';
import { LedgerError } from '../errors.js';
import { toJsonInteger } from '../money.js';
import { archiveUsage } from '../rollup/archive/archive.js';
import { describeBlockers, describeLeftOut, planArchive } from '../rollup/archive/plan.js';
import type { ArchivePlan, ArchiveReport } from '../rollup/archive/types.js';
import { registerArchiveRead } from './archiveRead.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { formatAmount, formatCount } from './output.js';
import { type Progress, startProgress } from './progress.js';
import { tellingWhatRan } from './whatRan.js';

interface ArchiveCommandOptions {
  until: string;
  out: string;
  dryRun?: true;
  withPersonalData?: true;
  wait: number;
}

export const registerArchive: Register = (command, run) => {
  command
    .usage('[options] | read [options] <dir>')
    .option('--until <day>', 'last UTC day to archive, inclusive (required)')
    .option('--out <dir>', 'directory of the files, the same one every time (required)')
    .option('--dry-run', 'say what there is to do and what is in the way, and do nothing')
    .option('--with-personal-data', 'keep personal metadata in the files; see below')
    .addOption(
      new Option('--without-personal-data', 'leave it out (the default)').conflicts(
        'withPersonalData',
      ),
    )
    .option('--wait <seconds>', 'for transactions and rows that others hold', seconds, 60)
    .addHelpText('after', NOTES)
    .action((given: Partial<ArchiveCommandOptions>) => {
      const options = requireTarget(given);
      return run((context) =>
        options.dryRun ? plan(context, options) : archive(context, options),
      );
    });
  registerArchiveRead(command, run);
};

/** Not by commander, which would ask them of `archive read` as well. */
function requireTarget(given: Partial<ArchiveCommandOptions>): ArchiveCommandOptions {
  for (const field of ['until', 'out'] as const) {
    if (given[field] !== undefined) continue;
    throw new LedgerError('invalid_request', `--${field} is required`, { details: { field } });
  }
  return given as ArchiveCommandOptions;
}

function seconds(value: string): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number > 86_400) {
    throw new InvalidArgumentError('Expected a whole number of seconds up to 86400.');
  }
  return number;
}

const NOTES = `
Events created on or before the last day are refused from then on (archived_period), also when an
archive stops half-way. A killed archive goes on when it is run again.
Files hold one event a line, gzipped. Deleting a user (\`user delete\`) cannot reach them, so what may
identify a person (prompt prefix, IP address, place, user agent, machine, session) is left out, and
is gone with the rows, unless --with-personal-data is given. User ids stay in the files.
There is no way back: archived rows do not return to the ledger, and the horizon is never lowered.
\`archive read\` puts them into a database of their own, \`export --archive\` into an export.
Exa requests are not archived.`;

const GO_ON = 'the same command, with the same --out, goes on';

async function archive(
  context: CommandContext,
  options: ArchiveCommandOptions,
): Promise<CommandStatus> {
  const { output, interruption } = context;
  return withMigratedDatabase(context, async ({ url, viaPooler }) => {
    let bar: Progress | null = null;
    const ran = { days: 0, rows: 0 };
    const describe = () => ({
      document: { days_archived: ran.days, rows_archived: ran.rows },
      text:
        ran.rows === 0
          ? ''
          : `${formatCount(ran.rows)} rows and ${formatCount(ran.days)} whole days are archived; ` +
            GO_ON,
    });
    try {
      const report = await tellingWhatRan(output, describe, () =>
        archiveUsage({
          url,
          viaPooler,
          until: options.until,
          directory: options.out,
          withPersonalData: options.withPersonalData === true,
          waitMs: options.wait * 1000,
          signal: interruption.gracefully(),
          onNotice: (message) => output.note(message),
          onProgress: ({ daysDone, rowsDone, rowsExpected }) => {
            Object.assign(ran, { days: daysDone, rows: rowsDone });
            bar ??= startProgress(output, 'archive', rowsExpected, 'rows');
            bar.update(rowsDone);
          },
        }),
      );
      output.answer(
        { ...toDocument(report, options), ...interruption.fields },
        [describeReport(report, options), ...interruption.lines(GO_ON)].join('\n'),
      );
      return report.failures.length === 0 ? 0 : 1;
    } finally {
      (bar as Progress | null)?.stop();
    }
  });
}

function toDocument(report: ArchiveReport, options: ArchiveCommandOptions) {
  return {
    from: report.from,
    until: report.until,
    archive_horizon: report.horizon,
    out: options.out,
    days: report.days,
    files: report.files,
    files_taken_up: report.filesTakenUp,
    rows: report.rows,
    cost_microdollars: toJsonInteger(report.costMicrodollars),
    left_out: report.leftOut,
    days_left: report.failures.map(({ period, message }) => ({ day: period, reason: message })),
    personal_data: options.withPersonalData === true,
    longest_transaction_ms: Math.round(report.longestTransactionMs),
    duration_ms: Math.round(report.durationMs),
  };
}

function describeReport(report: ArchiveReport, options: ArchiveCommandOptions): string {
  if (report.days === 0) return `nothing to archive until ${report.until}`;
  const takenUp =
    report.filesTakenUp === 0
      ? ''
      : `; went on with ${formatCount(report.filesTakenUp)} files of an earlier run`;
  const personal = options.withPersonalData ? 'kept in the files' : 'left out';
  return [
    `${formatCount(report.rows)} rows, ${formatAmount(report.costMicrodollars)}, of ` +
      `${formatCount(report.days)} days (${report.from} to ${report.until}) moved to ` +
      `${formatCount(report.files)} files in ${options.out}${takenUp}`,
    `personal metadata ${personal}; events before ${report.horizon} are refused`,
    ...report.failures.map(({ period, message }) => `left: ${period}: ${message}`),
  ].join('\n');
}

async function plan(
  context: CommandContext,
  options: ArchiveCommandOptions,
): Promise<CommandStatus> {
  return withMigratedDatabase(context, async ({ url, viaPooler }) => {
    const made = await planArchive({
      url,
      viaPooler,
      until: options.until,
      directory: options.out,
    });
    context.output.answer(toPlanDocument(made, options), describePlan(made));
    return made.blockers.length === 0 ? 0 : 1;
  });
}

function toPlanDocument(made: ArchivePlan, options: ArchiveCommandOptions) {
  return {
    dry_run: true,
    until: made.until,
    archive_horizon: made.horizon,
    out: options.out,
    personal_data: options.withPersonalData === true,
    days: made.days.map(({ day, state, rawRows, costMicrodollars }) => ({
      day,
      state,
      raw_rows: rawRows,
      cost_microdollars: costMicrodollars === null ? null : toJsonInteger(costMicrodollars),
    })),
    blockers: made.blockers,
    left: made.left,
    left_out: made.leftOut,
  };
}

function describePlan(made: ArchivePlan): string {
  const [first] = made.days;
  const left = [
    ...describeBlockers(made.left).map((line) => `left: ${line}`),
    ...(made.leftOut.length === 0 ? [] : [describeLeftOut(made.leftOut)]),
  ];
  if (!first) return [`nothing to archive until ${made.until}`, ...left].join('\n');
  const rows = made.days.reduce((sum, day) => sum + (day.rawRows ?? 0), 0);
  const cost = made.days.reduce((sum, day) => sum + (day.costMicrodollars ?? 0n), 0n);
  return [
    `${formatCount(made.days.length)} days from ${first.day} to ${made.until}: ` +
      `${formatCount(rows)} rows, ${formatAmount(cost)}, as of their last verification`,
    `events before ${made.horizon} would be refused`,
    ...left,
    ...describeBlockers(made.blockers.filter((each) => !made.left.includes(each))).map(
      (line) => `in the way: ${line}`,
    ),
  ].join('\n');
}
