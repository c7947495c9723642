import { finished } from 'node:stream/promises';
import type { Command } from 'commander';
import { EXIT_STATUS, isElsewhere, LedgerError } from '../../errors.js';
import { mapBounded } from '../../shards/mapBounded.js';
import { joinShards, ofShard } from '../../shards/registry.js';
import type { ShardOptions } from '../../shards/shardsFile.js';
import type { ShardContext } from '../context.js';
import { type Environment, onShard } from '../environment.js';
import { type Output, type Streams, toCommandError } from '../output.js';
import { openFinder } from './finder.js';
import { ofShardPaths, type Plan, planOf, wordsOf } from './plans.js';
import { ShardPools } from './shardPools.js';
import { KeptStreams, namingLines } from './shardStreams.js';

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
}

export interface Call {
  command: Command;
  environment: Environment;
  shards: readonly ShardOptions[];
  output: Output;
  runOn(run: ShardRun): Promise<Ended>;
}

/** `--shard` and `--parallel`, of every command. */
interface ShardsOptions {
  shard?: string;
  parallel: number;
}

/**
 * Runs a command over shards: on each, on the one of its payer, or once for all (plans.ts). Each run is the
 * command line again with the shard's database, so that no command knows of shards.
 * @returns the exit status, of several the worst
 * @throws LedgerError what kept it from being run at all
 */
export async function runOverShards(call: Call): Promise<number> {
  const plan = planOf(call.command);
  const options = call.command.optsWithGlobals<ShardsOptions>();
  const named = chosen(call, plan, options.shard);
  if (plan.on === 'payer') return await runOfPayer(call, plan);
  const pools = new ShardPools(call.environment, call.shards);
  try {
    if (plan.on === 'row') return await runOfRow(call, plan, { pools, named });
    if (plan.on === 'each' && named === null) return await runOnEach(call, plan, pools);
    const shard = named ?? homeOf(call);
    if (!isBlank(call, plan)) await requireShards(pools, shard);
    return await runPlainly(call, shard, { all: plan.on === 'whole' ? call.shards : null });
  } finally {
    await pools.close();
  }
}

const homeOf = ({ shards }: Call): ShardOptions => shards[0] as ShardOptions;

/** What is run on a database that is no shard yet. */
const isBlank = ({ command }: Call, plan: Plan): boolean =>
  wordsOf(command) === 'migrate' || (plan.on === 'named' && plan.isBlank === true);

/** The shard that `--shard` names; null without it. @throws LedgerError `invalid_request` */
function chosen({ command, shards }: Call, plan: Plan, name?: string): ShardOptions | null {
  const words = wordsOf(command);
  if (plan.on === 'none') throw refused(`${words} does not work over shards: ${plan.why}`);
  if (name === undefined) {
    if (plan.on !== 'named') return null;
    throw refused(`${words} works on one shard, named with --shard: ${plan.why}`);
  }
  if (plan.on === 'payer' || plan.on === 'whole') {
    throw refused(`${words} goes where its payers are: leave --shard out`);
  }
  const shard = shards.find((each) => each.name === name);
  if (shard !== undefined) return shard;
  const names = shards.map((each) => each.name).join(', ');
  throw refused(`--shard names none of the shards, which are ${names}`);
}

function refused(problem: string): LedgerError {
  return new LedgerError('invalid_request', problem, { details: { field: 'shard' } });
}

async function requireShards(pools: ShardPools, shard: ShardOptions): Promise<void> {
  const failure = (await pools.check([shard])).get(shard.name);
  if (failure !== undefined) throw ofShard(shard.name, failure);
}

/** As on one database: nothing is kept, and what it says is told as it is. */
async function runPlainly(
  call: Call,
  shard: ShardOptions,
  context: Partial<ShardContext> = {},
): Promise<number> {
  const { streams } = call.output;
  return (await call.runOn(runOf(call, shard, { streams, context }))).status;
}

function runOf(
  { environment }: Call,
  shard: ShardOptions,
  {
    streams,
    context = {},
    set = {},
  }: { streams: Streams; context?: Partial<ShardContext>; set?: Record<string, string> },
): ShardRun {
  return {
    environment: onShard(environment, shard),
    shard: { name: shard.name, accounts: null, all: null, ...context },
    streams,
    prepare(command) {
      ofShardPaths(command, shard.name);
      for (const [name, value] of Object.entries(set)) command.setOptionValue(name, value);
    },
  };
}

/** The answer of the shard that has the payer; those that refused the payer as elsewhere are not told. */
async function runOfPayer(call: Call, plan: Plan & { on: 'payer' }): Promise<number> {
  const finder = await openFinder(call.environment, call.shards, plan.isEverywhere ?? false);
  let ended: Ended = { status: 0, error: null };
  let kept = new KeptStreams();
  try {
    await finder.at(plan.payer, async (name) => {
      kept = new KeptStreams();
      const shard = call.shards.find((each) => each.name === name) ?? homeOf(call);
      const context = { accounts: finder.accounts };
      ended = await call.runOn(runOf(call, shard, { streams: kept, context, set: plan.set ?? {} }));
      if (ended.error !== null) throw ended.error;
    });
  } catch (error) {
    // Anything else is of the way to the payer, and was told nobody.
    if (error !== ended.error) throw error;
  } finally {
    await finder.close();
  }
  kept.tell(call.output.streams);
  return ended.status;
}

/** On the shard that has the row. One that is away may have it; a row of two has to be told apart. */
async function runOfRow(
  call: Call,
  plan: Plan & { on: 'row' },
  { pools, named }: { pools: ShardPools; named: ShardOptions | null },
): Promise<number> {
  const asked = named === null ? call.shards : [named];
  const failures = await pools.check(asked);
  const reached = asked.filter(({ name }) => !failures.has(name));
  // What is no id no shard has, and each refuses alike.
  const found = UUID.test(plan.id) ? await pools.find(reached, plan) : [];
  if (found.length > 1) {
    const names = found.map(({ name }) => name).join(', ');
    throw refused(`the id is of several payers, on ${names}: say which with --shard`);
  }
  const [away] = failures;
  if (found.length === 0 && away !== undefined) throw ofShard(...away);
  return await runPlainly(call, found[0] ?? named ?? homeOf(call));
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What came of one shard. */
interface Part extends Ended {
  shard: ShardOptions;
  kept: KeptStreams;
}

async function runOnEach(
  call: Call,
  plan: Plan & { on: 'each' },
  pools: ShardPools,
): Promise<number> {
  const { command, shards, output } = call;
  const { parallel } = command.optsWithGlobals<ShardsOptions>();
  const failures = isBlank(call, plan) ? new Map<string, LedgerError>() : await pools.check(shards);
  let isInterrupted = false;
  const parts = await mapBounded(shards, parallel, async (shard): Promise<Part> => {
    const failure = failures.get(shard.name) ?? (isInterrupted ? notBegun() : undefined);
    const part =
      failure === undefined
        ? await runOnOne(call, shard, plan.isSearch ?? false)
        : failedPart(call, shard, failure);
    isInterrupted ||= part.status > 128;
    if (!output.json && !isMiss(plan, part)) part.kept.tell(output.streams);
    return part;
  });
  // An account that some shard knows is no error of those that do not.
  const hits = parts.filter((part) => !isMiss(plan, part));
  const told = hits.length > 0 ? hits : parts;
  const joined = await joinMigrated(call, parts, pools);
  if (output.json) {
    const document = { shards: told.map(toDocument), ...joined?.document };
    output.answer(document, '');
  } else {
    if (hits.length === 0) for (const { kept } of told) kept.tell(output.streams);
    if (joined?.error) output.error(joined.error);
    else if (joined !== null) output.answer(null, joined.text);
  }
  const last = joined?.error ? EXIT_STATUS[joined.error.code] : 0;
  return Math.max(last, ...told.map(({ status }) => status));
}

const isMiss = (plan: Plan & { on: 'each' }, { error }: Ended): boolean =>
  plan.isSearch === true && error?.code === 'unknown_user' && !isElsewhere(error);

function notBegun(): LedgerError {
  return new LedgerError('unavailable', 'not begun: the command was interrupted');
}

async function runOnOne(call: Call, shard: ShardOptions, isKept: boolean): Promise<Part> {
  const { json, streams: target } = call.output;
  const kept = new KeptStreams();
  const live = isKept ? kept.stderr : target.stderr;
  const streams = {
    stdout: json ? kept.stdout : namingLines(shard.name, kept.stdout),
    stderr: namingLines(shard.name, live),
  };
  const ended = await call.runOn(runOf(call, shard, { streams }));
  await Promise.all([streams.stdout, streams.stderr].map((stream) => finished(stream.end())));
  return { ...ended, shard, kept };
}

function failedPart({ output }: Call, shard: ShardOptions, error: LedgerError): Part {
  const kept = new KeptStreams();
  if (!output.json) kept.stderr.write(`${shard.name}: error: ${error.message}\n`);
  return { status: EXIT_STATUS[error.code], error, shard, kept };
}

function toDocument({ shard, status, error, kept }: Part): Record<string, unknown> {
  const failure =
    error === null
      ? {}
      : { error: { code: error.code, message: error.message, details: error.details } };
  const answer = kept.answer === '' ? failure : (JSON.parse(kept.answer) as object);
  return { name: shard.name, exit_status: status, ...answer };
}

/** After `migrate` of all: they become one installation. Null: nothing to join. */
async function joinMigrated(
  { command, shards }: Call,
  parts: readonly Part[],
  pools: ShardPools,
): Promise<{ document: object; text: string; error?: LedgerError } | null> {
  if (wordsOf(command) !== 'migrate' || command.opts().dryRun === true) return null;
  const failed = parts.filter(({ status }) => status !== 0).map(({ shard }) => shard.name);
  if (failed.length > 0) {
    const text = `no shard has joined: ${failed.join(', ')} first, then \`migrate\` again`;
    return { document: { joined: [] }, text };
  }
  try {
    const { joined } = await joinShards(
      shards.map((shard) => ({ name: shard.name, pool: pools.pool(shard) })),
    );
    const text = joined.length === 0 ? '' : `joined: ${joined.join(', ')}`;
    return { document: { joined }, text };
  } catch (error) {
    const failure = toCommandError(error);
    const { code, message, details } = failure;
    return {
      document: { joined: [], error: { code, message, details } },
      text: '',
      error: failure,
    };
  }
}
