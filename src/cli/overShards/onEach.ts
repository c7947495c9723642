import { finished } from 'node:stream/promises';
import { EXIT_STATUS, isElsewhere, LedgerError } from '../../errors.js';
import { mapBounded } from '../../shards/mapBounded.js';
import { joinShards } from '../../shards/registry.js';
import type { ShardOptions } from '../../shards/shardsFile.js';
import { toCommandError } from '../output.js';
import { type Call, type Ended, isBlank, runOf, type ShardsOptions } from './call.js';
import { type Plan, wordsOf } from './plans.js';
import type { ShardPools } from './shardPools.js';
import { KeptStreams, namingLines } from './shardStreams.js';

/** What came of one shard. */
interface Part extends Ended {
  shard: ShardOptions;
  kept: KeptStreams;
}

/**
 * On each shard, side by side within a bound; one that cannot be used is named, and the rest is done.
 * @returns the worst exit status
 */
export async function runOnEach(
  call: Call,
  plan: Plan & { on: 'each' },
  pools: ShardPools,
): Promise<number> {
  const { command, shards, output } = call;
  const { parallel } = command.optsWithGlobals<ShardsOptions>();
  const failures = isBlank(call, plan) ? new Map<string, LedgerError>() : await pools.check(shards);
  let isInterrupted = false;
  const tell = inOrder<Part>((part) => {
    if (!output.json && !isMiss(plan, part)) part.kept.tell(output.streams);
  });
  const parts = await mapBounded(shards, parallel, async (shard, index): Promise<Part> => {
    const failure = failures.get(shard.name) ?? (isInterrupted ? notBegun() : undefined);
    const part =
      failure === undefined
        ? await runOnOne(call, shard, plan.isSearch ?? false)
        : failedPart(call, shard, failure);
    isInterrupted ||= part.status > 128;
    tell(part, index);
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

/** Answers come in the order of the file; each as soon as those before it are there. */
function inOrder<T>(tell: (item: T) => void): (item: T, index: number) => void {
  const waiting = new Map<number, T>();
  let next = 0;
  return (item, index) => {
    waiting.set(index, item);
    for (let ready = waiting.get(next); ready !== undefined; ready = waiting.get(++next)) {
      tell(ready);
      waiting.delete(next);
    }
  };
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
  const ended = await call.runOn(runOf(call, shard, { streams, isNamed: true }));
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
