import type { Command } from 'commander';
import type { Accounts } from '../shards/accounts.js';
import type { ShardOptions } from '../shards/shardsFile.js';
import type { Environment } from './environment.js';
import type { Interruption } from './interruption.js';
import type { Output } from './output.js';

/** What every command is given. */
export interface CommandContext {
  output: Output;
  environment: Environment;
  interruption: Interruption;
  /** Null: on one database. */
  shard: ShardContext | null;
}

/** Of a command that runs on one of several shards; `environment` is that of the shard. */
export interface ShardContext {
  name: string;
  /** Of home, which stands for all of them in what a `start` notes in its data directory. */
  homeUrl: string | null;
  /** Where accounts are, of a payer's command: not on this shard alone. */
  accounts: Accounts | null;
  /** Of a command that runs once for all: its ledger is that of these. */
  all: readonly ShardOptions[] | null;
}

/** Exit status when the command ran: 0 fine, 1 it found something wrong. */
export type CommandStatus = 0 | 1;

/** Runs a command's work with its context; failures become messages and an exit status. */
export type Runner = (work: (context: CommandContext) => Promise<CommandStatus>) => Promise<void>;

/** Gives a command its options, its parts and what it does; its name and description it has. */
export type Register = (command: Command, run: Runner) => void;
