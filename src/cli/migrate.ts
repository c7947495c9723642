import { InvalidArgumentError, Option } from 'commander';
import { type MigrateResult, migrate, planMigration, type StepProgress } from '../db/migrate.js';
import { LedgerError } from '../errors.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { describeForeignRows, describePlan, planDocument, planSql } from './migratePlan.js';
import type { Output } from './output.js';
import { withOwner } from './owner.js';
import { type Progress, startProgress } from './progress.js';

interface MigrateCommandOptions {
  dryRun?: true;
  sql?: true;
  dropForeignKeys?: true;
  countForeignRows?: boolean;
  partitionById?: true;
  lockTimeout?: number;
}

export const registerMigrate: Register = (command, run) => {
  command
    .option('--dry-run', 'say what there is to do, its locks and its length, and do nothing')
    .option('--sql', 'with --dry-run: the statements, in their order, to be read')
    .option('--drop-foreign-keys', 'drop foreign keys that make usage writes wait for other rows')
    .addOption(
      new Option(
        '--count-foreign-rows <on|off>',
        'count usage rows that other programs insert at once; off while one keeps totals itself',
      ).argParser(toSwitch),
    )
    .option(
      '--partition-by-id',
      'partition usage by month of its ids, for very large ledgers whose ids are UUID v7',
    )
    .option('--lock-timeout <ms>', 'longest wait for a lock; writers queue behind it', toMs)
    .action((options: MigrateCommandOptions) =>
      run((context) =>
        withOwner(context, (url) => migrateOrPlan(context, url, options), {
          isMade: options.dryRun !== true,
        }),
      ),
    );
};

async function migrateOrPlan(
  { output, interruption }: CommandContext,
  url: string,
  options: MigrateCommandOptions,
): Promise<CommandStatus> {
  interruption.remark = 'whole steps stay; `migrate` again goes on';
  const choices = {
    dropForeignKeys: options.dropForeignKeys,
    countForeignRows: options.countForeignRows,
    partitionById: options.partitionById,
  };
  if (options.sql && !options.dryRun) {
    throw new LedgerError('invalid_request', '--sql goes with --dry-run, and changes nothing');
  }
  if (options.dryRun) {
    const plan = await planMigration(url, choices);
    output.answer(planDocument(plan), options.sql ? planSql(plan) : describePlan(plan));
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
        partitioned_by_id: result.isPartitioned,
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
  const { applied, isAdopted, isGenerationRaised, countsForeignRows, isPartitioned, warnings } =
    result;
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
    ...(isPartitioned ? ['usage is partitioned by month of its ids'] : []),
    ...warnings.map((warning) => `warning: ${warning}`),
  ].join('\n');
}

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
