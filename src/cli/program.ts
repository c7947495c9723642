import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { EXIT_STATUS, LedgerError } from '../errors.js';
import { readPackageVersion } from '../packageFiles.js';
import { addCommands } from './commands.js';
import type { Runner, ShardContext } from './context.js';
import type { Environment } from './environment.js';
import { inWordsOf } from './fieldNames.js';
import { Interruption } from './interruption.js';
import { Output, type Streams, toCommandError } from './output.js';
import type { Ended } from './overShards/call.js';
import { planOf } from './overShards/plans.js';

const USAGE = EXIT_STATUS.invalid_request;
/** Each listens for signals; more would be taken for a leak. */
const MAX_PARALLEL = 8;

/** Runs one command; returns the exit status. Everything it prints goes to `streams`. */
export async function runCli(
  argv: readonly string[],
  streams: Streams = process,
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  const environment = async () => (await import('./environment.js')).readEnvironment(env);
  return (await runProgram(argv, { streams, environment })).status;
}

interface ProgramRun {
  streams: Streams;
  environment(): Environment | Promise<Environment>;
  /** On one of several shards. */
  shard?: ShardContext | null;
  prepare?(command: Command): void;
  describe?(error: LedgerError): LedgerError;
}

async function runProgram(
  argv: readonly string[],
  { streams, environment: read, shard = null, prepare, describe }: ProgramRun,
): Promise<Ended> {
  // Known before parsing, so that errors of usage are JSON as well.
  const output = new Output(argv.includes('--json'), streams);
  output.watchStreams();
  const interruption = new Interruption(output);
  const ended: Ended = { status: 0, error: null };
  const run: Runner = async (work) => {
    const environment = await read();
    const { shards } = environment;
    if (shards === null) requireNoShard(running, shard);
    if (shards === null || planOf(running).on === 'itself') {
      ended.status = await work({ output, environment, interruption, shard });
      return;
    }
    const { runOverShards } = await import('./overShards/run.js');
    ended.status = await runOverShards({
      command: running,
      environment,
      shards,
      output,
      runOn: ({ environment: own, ...on }) => runProgram(argv, { ...on, environment: () => own }),
    });
  };
  const program = await createProgram(output, run, argv);
  let running = program;
  program.hook('preAction', (_program, command) => {
    running = command;
    prepare?.(command);
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      return { status: endOfUsage(error, output), error: null };
    }
    const failure = inWordsOf(running, toCommandError(error));
    ended.error = describe?.(failure) ?? failure;
    output.error(ended.error);
    ended.status = EXIT_STATUS[ended.error.code];
  }
  ended.status = interruption.status ?? (await endOfOutput(output)) ?? ended.status;
  return ended;
}

/** @throws LedgerError `invalid_request` where there are no shards to choose from */
function requireNoShard(command: Command, shard: ShardContext | null): void {
  const { shard: name } = command.optsWithGlobals<{ shard?: string }>();
  if (name === undefined || shard !== null) return;
  throw new LedgerError('invalid_request', '--shard goes with MICRODOLLAR_SHARDS_FILE', {
    details: { field: 'shard' },
  });
}

/** Whatever the command did, an answer that nobody got is no success. */
async function endOfOutput(output: Output): Promise<number | null> {
  try {
    await output.flush();
    return null;
  } catch (error) {
    const failure = toCommandError(error);
    output.streams.stderr.write(`error: ${failure.message}\n`);
    return EXIT_STATUS[failure.code];
  }
}

/**
 * The commands; `run` is given the work of the one that is called. With `argv` it is for that command line
 * alone: others have their place in the list, and nothing behind it.
 */
export async function createProgram(
  output: Output,
  run: Runner,
  argv: readonly string[] | null = null,
): Promise<Command> {
  const program = new Command('microdollar')
    .description('Exact usage ledger for AI gateways on PostgreSQL')
    .version(readPackageVersion(), '--version', 'print the version')
    .option('--json', 'print one JSON document on stdout and nothing else there')
    .option('--shard <name>', 'with MICRODOLLAR_SHARDS_FILE: on this shard alone')
    .option('--parallel <n>', 'with MICRODOLLAR_SHARDS_FILE: shards at once', toParallel, 4)
    .addHelpText(
      'after',
      '\nExit status: 0 fine, 1 it ran and found something wrong, 2 usage, 3 it could not run.' +
        '\nDatabase: DATABASE_URL, else an embedded one in MICRODOLLAR_DATA_DIR (.microdollar);' +
        '\nor MICRODOLLAR_SHARDS_FILE, several: what is of a payer goes to its shard, else to each.',
    );
  program
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(--help lists the options)');
  program.exitOverride().configureOutput({
    writeOut: (text) => output.streams.stdout.write(text),
    writeErr: (text) => {
      if (!output.json) output.streams.stderr.write(text);
    },
  });
  await addCommands(program, run, argv);
  for (const command of program.commands) inherit(program, command);
  return program;
}

function toParallel(value: string): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < 1 || number > MAX_PARALLEL) {
    throw new InvalidArgumentError(`Expected a whole number from 1 to ${MAX_PARALLEL}.`);
  }
  return number;
}

/** Commands made by `.command()` copy these settings; groups and their parts must as well. */
function inherit(parent: Command, command: Command): void {
  command.copyInheritedSettings(parent);
  for (const part of command.commands) inherit(command, part);
}

/** `--help` is fine; the rest is usage. */
function endOfUsage(error: CommanderError, output: Output): number {
  if (error.exitCode === 0) return 0;
  if (output.json) {
    const message = error.message.replace(/^error: /, '');
    const isHelp = error.code === 'commander.help';
    output.error(
      new LedgerError('invalid_request', isHelp ? 'a command is missing; see --help' : message, {
        details: { usage: error.code },
      }),
    );
  }
  return USAGE;
}
