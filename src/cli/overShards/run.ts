import { LedgerError } from '../../errors.js';
import { ofShard } from '../../shards/registry.js';
import { isMisplaced } from '../../shards/router.js';
import type { ShardOptions } from '../../shards/shardsFile.js';
import type { ShardContext } from '../context.js';
import { type Call, type Ended, isBlank, runOf, type ShardsOptions } from './call.js';
import { openFinder } from './finder.js';
import { runOnEach } from './onEach.js';
import { type Plan, planOf, wordsOf } from './plans.js';
import { ShardPools } from './shardPools.js';
import { KeptStreams } from './shardStreams.js';

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
      if (isMisplaced(ended.error)) throw ended.error;
    });
  } catch (error) {
    // Anything else is of the way to the payer, and nobody was told of it.
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
