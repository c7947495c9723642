import type { Command } from 'commander';
import type { LedgerError } from '../../errors.js';
import { ofShard } from '../../shards/registry.js';
import type { ShardOptions } from '../../shards/shardsFile.js';
import type { ShardContext } from '../context.js';
import type { Environment } from '../environment.js';
import type { Output, Streams } from '../output.js';
import { onShard } from './onShard.js';
import { ofShardPaths, type Plan, wordsOf } from './plans.js';

/** How a command ended. */
export interface Ended {
  status: number;
  error: LedgerError | null;
}

/** The same command line again, on one shard. */
export interface ShardRun {
  environment: Environment;
  shard: ShardContext;
  streams: Streams;
  /** Before its action: its paths, and what was decided for it. */
  prepare(command: Command): void;
  /** Its failure as it is told. */
  describe(error: LedgerError): LedgerError;
}

export interface Call {
  command: Command;
  environment: Environment;
  shards: readonly ShardOptions[];
  output: Output;
  runOn(run: ShardRun): Promise<Ended>;
}

/** `--shard` and `--parallel`, of every command. */
export interface ShardsOptions {
  shard?: string;
  parallel: number;
}

/** What is run on a database that is no shard yet. */
export const isBlank = ({ command }: Call, plan: Plan): boolean =>
  wordsOf(command) === 'migrate' || (plan.on === 'named' && plan.isBlank === true);

interface RunOptions {
  streams: Streams;
  context?: Partial<ShardContext>;
  /** Options that it was not given. */
  set?: Record<string, string>;
  /** What it tells names the shard already. */
  isNamed?: boolean;
}

/** The command line again, on this shard. */
export function runOf(
  { environment }: Call,
  shard: ShardOptions,
  { streams, context = {}, set = {}, isNamed = false }: RunOptions,
): ShardRun {
  const homeUrl = environment.shards?.[0]?.databaseUrl ?? null;
  return {
    environment: onShard(environment, shard),
    shard: { name: shard.name, homeUrl, accounts: null, all: null, ...context },
    streams,
    prepare(command) {
      ofShardPaths(command, shard.name);
      for (const [name, value] of Object.entries(set)) command.setOptionValue(name, value);
    },
    describe: (error) =>
      isNamed || error.code !== 'unavailable' ? error : ofShard(shard.name, error),
  };
}
