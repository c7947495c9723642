import { InvalidArgumentError, Option } from 'commander';
import type { Step } from '../db/migrate/step.js';
import {
  type MigrateResult,
  type MigrationPlan,
  migrate,
  planMigration,
  type StepProgress,
} from '../db/migrate.js';
import { LedgerError } from '../errors.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { describeFailure, isContended, openServer } from './database.js';
import { alignTable, type Output } from './output.js';
import { type Progress, startProgress } from './progress.js';

interface MigrateCommandOptions {
  dryRun?: true;
  dropForeignKeys?: true;
  countForeignRows?: boolean;
  lockTimeout?: number;
}

export const registerMigrate: Register = (program, run) => {
  program
    .command('migrate')
    .description(
      'apply migrations, or adopt a database that has usage already; safe from several processes',
    )
    .option('--dry-run', 'say what there is to do, its locks and its length, and do nothing')
    .option('--drop-foreign-keys', 'drop foreign keys that make usage writes wait for other rows')
    .addOption(
      new Option(
        '--count-foreign-rows <on|off>',
        'count usage rows that other programs insert at once; off while one keeps totals itself',
      ).argParser(toSwitch),
    )
    .option('--lock-timeout <ms>', 'longest wait for a lock; writers queue behind it', toMs)
    .action((options: MigrateCommandOptions) =>
      run((context) => withOwner(context, (url) => migrateOrPlan(context, url, options))),
    );
};

/** As the role that owns the schema, which belongs to the database of DATABASE_URL. */
async function withOwner(
  { environment }: CommandContext,
  work: (url: string) => Promise<CommandStatus>,
): Promise<CommandStatus> {
  const isOwn = environment.databaseUrl !== null;
  if (isOwn && environment.pooler !== null && environment.migrationUrl === null) {
    throw new LedgerError(
      'invalid_request',
      'migrate holds a lock of its session, which a pooler in transaction mode hands to others; set ' +
        'MICRODOLLAR_MIGRATION_URL to the database itself',
      { details: { field: 'MICRODOLLAR_MIGRATION_URL' } },
    );
  }
  const server = await openServer(environment);
  const url = isOwn ? (environment.migrationUrl ?? server.url) : server.url;
  try {
    return await work(url);
  } catch (error) {
    // A table in use says who holds it; DATABASE_URL is not to blame.
    throw isContended(error) ? error : describeFailure(error, url);
  } finally {
    await server.stop();
  }
}

async function migrateOrPlan(
  { output }: CommandContext,
  url: string,
  options: MigrateCommandOptions,
): Promise<CommandStatus> {
  const choices = {
    dropForeignKeys: options.dropForeignKeys,
    countForeignRows: options.countForeignRows,
  };
  if (options.dryRun) {
    const plan = await planMigration(url, choices);
    output.answer(planDocument(plan), describePlan(plan));
    return plan.problems.length === 0 ? 0 : 1;
  }
  const shown = showSteps(output);
  try {
    const result = await migrate(url, {
      ...choices,
      lockTimeoutMs: options.lockTimeout,
      log: (message) => output.note(message),
      onStep: shown.onStep,
    });
    output.answer(
      {
        applied: result.applied,
        adopted: result.isAdopted,
        generation_raised: result.isGenerationRaised,
        count_foreign_rows: result.countsForeignRows,
        warnings: result.warnings,
      },
      describeResult(result),
    );
    return 0;
  } finally {
    shown.stop();
  }
}

function describeResult(result: MigrateResult): string {
  const { applied, isAdopted, isGenerationRaised, countsForeignRows, warnings } = result;
  return [
    ...(applied.length === 0
      ? ['nothing to apply: the schema is up to date']
      : applied.map((name) => `applied ${name}`)),
    ...(isAdopted
      ? ['adopted: reads stay on raw usage; next: `microdollar backfill`, then `verify`']
      : []),
    ...(isGenerationRaised
      ? ['transaction ids are of another cluster (a restored dump?): positions begin above them']
      : []),
    describeForeignRows(countsForeignRows),
    ...warnings.map((warning) => `warning: ${warning}`),
  ].join('\n');
}

const describeForeignRows = (areCounted: boolean) =>
  areCounted
    ? 'usage rows of other programs are counted at once'
    : 'usage rows of other programs are counted by backfill or repair ' +
      '(at once: --count-foreign-rows on)';

/** A line for each step, and a bar while an index is built. */
function showSteps(output: Output) {
  let bar: Progress | null = null;
  const stop = () => {
    bar?.stop();
    bar = null;
  };
  const onStep = ({ step, index, total, phase, done, expected }: StepProgress) => {
    if (phase === undefined) {
      stop();
      output.note(`${index + 1}/${total} ${step.kind.replaceAll('_', ' ')}: ${step.subject}`);
    } else if (expected) {
      bar ??= startProgress(output, step.subject, 100);
      bar.update((100 * (done ?? 0)) / expected, { rate: phase });
    }
  };
  return { onStep, stop };
}

function planDocument(plan: MigrationPlan) {
  return {
    dry_run: true,
    adoption: plan.work === 'adopt',
    unapplied: plan.unapplied,
    count_foreign_rows: plan.countsForeignRows,
    steps: plan.steps.map((step) => ({
      kind: step.kind,
      subject: step.subject,
      tables: step.tables,
      lock: step.lock,
      duration: step.duration,
      statements: step.statements,
    })),
    problems: plan.problems,
    warnings: plan.warnings,
  };
}

const TITLES = {
  adopt: 'this database has tables of its own: it would be adopted online, beside its writers',
  upgrade: 'this database is of an older version: it would be changed online, beside its writers',
  install: 'would be applied, in one transaction',
  change: 'the schema is up to date; would be done, step by step',
} as const;

function describePlan(plan: MigrationPlan): string {
  if (plan.steps.length === 0) return ['nothing to do', ...remarks(plan)].join('\n');
  const title = TITLES[plan.work ?? (plan.unapplied.length === 0 ? 'change' : 'install')];
  const rows = plan.steps.map((step) => [step.duration, lockOf(step), kindOf(step), step.subject]);
  return [title, alignTable([['', 'lock', 'step', ''], ...rows]), ...remarks(plan)].join('\n');
}

const lockOf = (step: Step) => (step.lock === 'none' ? '-' : step.lock.toLowerCase());
const kindOf = (step: Step) => step.kind.replaceAll('_', ' ');

function remarks(plan: MigrationPlan): string[] {
  return [
    describeForeignRows(plan.countsForeignRows),
    ...plan.warnings.map((warning) => `warning: ${warning}`),
    ...plan.problems.map((problem) => `in the way: ${problem}`),
  ];
}

function toSwitch(text: string): boolean {
  if (text !== 'on' && text !== 'off') throw new InvalidArgumentError('must be on or off');
  return text === 'on';
}

function toMs(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1 || value > 60_000) {
    throw new InvalidArgumentError('must be milliseconds, 1 to 60000');
  }
  return value;
}
