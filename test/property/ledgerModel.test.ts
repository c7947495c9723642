import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { COMMANDS } from './model/commands.js';
import { RecordEvent } from './model/recordCommands.js';
import { createWorld, type World } from './model/world.js';

/**
 * Random programs against a model in memory. `MODEL_PROGRAMS=5000` runs more of them, `MODEL_SEED`
 * repeats a run; a failure prints both the seed and the shrunk program.
 */
const PROGRAMS = Number(process.env.MODEL_PROGRAMS ?? 200);
const SEED = process.env.MODEL_SEED;

let world: World;

beforeAll(async () => {
  world = await createWorld();
});

afterAll(() => world[Symbol.asyncDispose]());

/** What the comparison at the end of a program must see; each statement takes the user's id. */
const DAMAGES: Record<string, string> = {
  'a daily row that is off by one': `
    update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 1
    where kilo_user_id = $1`,
  'a balance that is off by one': `
    update kilocode_users set microdollars_used = microdollars_used - 1 where id = $1`,
  'a lost delta': 'delete from microdollar_usage_pending where kilo_user_id = $1',
  'a delta that counts twice': `
    insert into microdollar_usage_pending (kilo_user_id, usage_date, cost_microdollars)
    select kilo_user_id, usage_date, cost_microdollars from microdollar_usage_pending
    where kilo_user_id = $1`,
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
    const program = await damaged.newProgram();
    try {
      for (const by of [0, 2]) {
        const payment = { user: 0, isOrganization: false, cost: 7, givenAt: null, model: null };
        await new RecordEvent(by, payment).run(program.model, program);
      }
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
      await fc.assert(
        fc.asyncProperty(
          fc.commands(COMMANDS, { maxCommands: 30, size: '+1' }),
          async (commands) => {
            const program = await world.newProgram();
            try {
              await fc.asyncModelRun(() => ({ model: program.model, real: program }), commands);
              await program.finish();
            } finally {
              await program.release();
            }
          },
        ),
        {
          numRuns: PROGRAMS,
          endOnFailure: false,
          ...(SEED === undefined ? {} : { seed: Number(SEED) }),
        },
      );
      expect(await checkInvariants(world.database.pool)).toEqual([]);
      expect(await checkFolded(world.database.pool)).toEqual([]);
    },
    60_000 + PROGRAMS * 1_000,
  );
});
