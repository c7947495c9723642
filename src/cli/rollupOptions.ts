import { type Command, InvalidArgumentError } from 'commander';
import { readDay } from '../days.js';
import { DAILY_ROLLUP, EXA_ROLLUP, type Rollup } from '../schema/rollups.js';
import type { CommandContext } from './context.js';
import type { CommandDatabase } from './database.js';

/** Options that the commands on a rollup share. */
export interface RollupOptions {
  from?: string;
  until?: string;
  user?: string;
  workers: number;
}

/** Every rollup, the one that reads use first. */
export const CHECKED_ROLLUPS: readonly Rollup[] = [DAILY_ROLLUP, EXA_ROLLUP];

export function addRangeOptions(command: Command): Command {
  return command
    .option('--from <day>', 'first UTC day, inclusive (default: the first with usage)', day)
    .option('--until <day>', 'last UTC day, inclusive (default: today)', day)
    .option('--workers <n>', 'at once', workers, 2);
}

/** For a whole range of days, what is given of it. */
export function rangeOf({ from, until }: RollupOptions): { from?: string; until?: string } {
  return {
    ...(from === undefined ? {} : { from }),
    ...(until === undefined ? {} : { until }),
  };
}

/** For a job on a rollup. */
export function jobOptions<R>(
  context: CommandContext,
  { url, viaPooler }: Pick<CommandDatabase, 'url' | 'viaPooler'>,
  rollup: R,
  options: RollupOptions,
) {
  return {
    signal: context.interruption.gracefully(),
    url,
    viaPooler,
    rollup,
    workers: options.workers,
    ...rangeOf(options),
    kiloUserId: options.user,
    onNotice: (message: string) => context.output.note(message),
  };
}

export function day(value: string): string {
  try {
    return readDay('day', value);
  } catch {
    throw new InvalidArgumentError('Expected a UTC day like 2026-11-22.');
  }
}

function workers(value: string): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < 1 || number > 32) {
    throw new InvalidArgumentError('Expected a whole number from 1 to 32.');
  }
  return number;
}
