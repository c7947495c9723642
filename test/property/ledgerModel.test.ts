import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { expectShardsFolded } from '../support/expectShardsExact.js';
import { inForm } from '../support/form.js';
import type { Command } from './model/command.js';
import { COMMANDS, SHARD_COMMANDS } from './model/commands.js';
import { rebuildProveAndSeal } from './model/operators.js';
import { newProgram, type Program } from './model/program.js';
import { RecordEvent } from './model/recordCommands.js';
import { createShardedWorld, createWorld, type World } from './model/world.js';

/**
 * Random programs against a model in memory. More of them: `npm run test:model -- --programs N`,
 * `--seed S` to repeat a run; a failure prints the seed of its world, which repeats it with 200 programs
 * and `--lanes 1`, and the shrunk program.
 */
const PROGRAMS = Number(process.env.MODEL_PROGRAMS ?? inForm(20, 80));
/** Over shards a program is six times as dear. */
const SHARD_PROGRAMS = Math.max(inForm(3, 5), Math.round(PROGRAMS / 32));
/** Those that also end with backfill and archive have a database of their own. */
const SEALED_PROGRAMS = Math.max(3, Math.round(PROGRAMS / 1_000));
/** No other world is begun after so many minutes. */
const MINUTES = Number(process.env.MODEL_MINUTES ?? Number.POSITIVE_INFINITY);
const SEED = Number(process.env.MODEL_SEED ?? Math.floor(Math.random() * 2 ** 30));
const PROGRAM = fc.commands(COMMANDS, { maxCommands: 30, size: '+1' });
const SHARD_PROGRAM = fc.commands(SHARD_COMMANDS, { maxCommands: 30, size: '+1' });
/** A database each is most of what they cost. */
const SHARD_NAMES = ['home', 'b', 'c'];
const TIMEOUT_MS = 60_000 + PROGRAMS * 1_000;
/** Of one database, which is then checked as a whole: sweeps look at the payers of all. */
const PROGRAMS_OF_A_WORLD = 200;

/** What the comparison at the end of a program must see; each statement takes the user's id. */
const DAMAGES: Record<string, string> = {
  'a daily row that is off by one': `
    update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 1
    where kilo_user_id = $1`,
  'a balance that is off by one': `
    update kilocode_users set microdollars_used = microdollars_used - 1 where id = $1`,
  'a mark that rose without its counters': `
    update kilocode_users set settled_below = 1::bigint << 62 where id = $1`,
  'a mark that fell': `
    update kilocode_users set settled_below = 0 where id = $1`,
  'an exception for what is settled': `
    update kilocode_users set settled_except = array(
      select m.position from microdollar_usage as m
      where m.kilo_user_id = $1 and m.position < settled_below)
    where id = $1`,
  'usage that was never sent': `
    insert into microdollar_usage (id, kilo_user_id, cost) values (gen_random_uuid(), $1, 0)`,
  'personal data that came back': `
    with deleted as (update kilocode_users set deleted_at = now() where id = $1)
    update microdollar_usage_metadata set user_prompt_prefix = 'dear diary'
    where kilo_user_id = $1`,
};

describe('the comparison with the model', () => {
  let damaged: World;

  beforeAll(async () => {
    damaged = await createWorld();
  });

  afterAll(() => damaged[Symbol.asyncDispose]());

  it.each(Object.entries(DAMAGES))('sees %s', async (_, damage) => {
    const program = await newProgram(damaged);
    const record = (by: number) => {
      const payment = { user: 0, isOrganization: false, cost: 7, givenAt: null, model: null };
      return new RecordEvent(by, payment).run(program.model, program);
    };
    try {
      await record(0);
      await damaged.writers[0]?.fold();
      // Unsettled.
      await record(2);
      await damaged.database.pool.query(damage, [program.users[0]]);
      await expect(program.finish()).rejects.toThrow(/expected/);
    } finally {
      await program.release();
    }
  });
});

describe('a ledger', () => {
  it(
    'reports what the model reports, whatever was written by whom, and beside whom',
    async () => {
      await runWorlds(PROGRAMS, createWorld, PROGRAM, async (world) => {
        expect(await world.writers[0]?.fold()).toMatchObject({ remaining: 0 });
        expect(await checkInvariants(world.database.pool)).toEqual([]);
        expect(await checkFolded(world.database.pool)).toEqual([]);
      });
    },
    TIMEOUT_MS,
  );

  it(
    'still does when its history is built anew, proven and archived',
    async () => {
      await fc.assert(
        fc.asyncProperty(PROGRAM, async (commands) => {
          await using own = await createWorld();
          await runProgram(own, commands, rebuildProveAndSeal);
          expect(await checkInvariants(own.database.pool)).toEqual([]);
        }),
        { seed: SEED, numRuns: SEALED_PROGRAMS },
      );
    },
    TIMEOUT_MS,
  );
});

describe('a ledger of shards', () => {
  it(
    'reports what the model reports, whatever is on which shard',
    async () => {
      const create = () => createShardedWorld(SHARD_NAMES);
      await runWorlds(SHARD_PROGRAMS, create, SHARD_PROGRAM, async (world) => {
        expect(await world.writers[0]?.fold()).toMatchObject({ remaining: 0 });
        const pools = world.databases.map(({ pool }, index) => ({
          name: SHARD_NAMES[index] ?? '',
          pool,
        }));
        await expectShardsFolded(pools);
      });
    },
    TIMEOUT_MS,
  );
});

/** So many programs, each world of them checked as a whole; the seed of a world repeats it. */
async function runWorlds(
  programs: number,
  create: () => Promise<World>,
  program: fc.Arbitrary<Iterable<Command>>,
  check: (world: World) => Promise<void>,
): Promise<void> {
  const endsAt = performance.now() + MINUTES * 60_000;
  for (let done = 0; done < programs && performance.now() < endsAt; ) {
    const numRuns = Math.min(PROGRAMS_OF_A_WORLD, programs - done);
    await using world = await create();
    await fc.assert(
      fc.asyncProperty(program, (commands) => runProgram(world, commands)),
      { seed: SEED + done, numRuns },
    );
    await check(world);
    done += numRuns;
    if (programs > PROGRAMS_OF_A_WORLD) console.log(`${done} of ${programs} programs`);
  }
}

async function runProgram(
  where: World,
  commands: Iterable<Command>,
  afterwards?: (program: Program) => Promise<void>,
): Promise<void> {
  const program = await newProgram(where);
  try {
    await fc.asyncModelRun(() => ({ model: program.model, real: program }), commands);
    await program.finish();
    await afterwards?.(program);
  } finally {
    await program.release();
  }
}
