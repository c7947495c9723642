import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isKnownCluster, migrate, planMigration } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openSessions, type Session } from '../support/sessions.js';

/**
 * A generation that is raised beside live sessions: those from before have the old base of their
 * positions, and must not lose what they write (R6).
 */
let database: TestDatabase;

/** On a session of its own, which is gone afterwards. */
async function run<Row = Record<string, unknown>>(text: string): Promise<Row[]> {
  await using sessions = await openSessions(database.url, 1);
  return (await sessions.all[0]?.run<Row>(text)) ?? [];
}

beforeEach(async () => {
  database = await createTestDatabase();
  await migrate(database.url);
  await run(`insert into kilocode_users (id) values ('ada')`);
});
afterEach(() => database.drop());

const append = (cost: number) => `
  insert into microdollar_usage (id, kilo_user_id, cost, position)
  values (gen_random_uuid(), 'ada', ${cost}, microdollar_position())`;

/** Ids of another cluster come, and nothing but they tell. */
const IMPORT = `
  insert into kilocode_users (id, settled_below)
  select 'imported', (generation << 44) + 900000000 from ledger_settings`;

const reported = async () =>
  (
    await run<{ used: string }>(
      `select microdollars_used as used from kilocode_user_balances where kilo_user_id = 'ada'`,
    )
  )[0]?.used;

/** A new process records, and settles what it may. */
async function recordElsewhere(cost: number): Promise<void> {
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  await ledger.recordUsage({ kilo_user_id: 'ada', cost });
  await ledger.fold();
  await ledger.close();
}

async function expectSettled(used: string): Promise<void> {
  expect(await reported()).toBe(used);
  expect(await isKnownCluster(database.pool)).toBe(true);
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  expect((await ledger.fold()).remaining).toBe(0);
  await ledger.close();
  expect(await reported()).toBe(used);
  expect(await checkInvariants(database.pool)).toEqual([]);
  expect(await checkFolded(database.pool)).toEqual([]);
}

describe('a session that has written before the ids of another cluster were found', () => {
  it('keeps the generation as it is while it is there, and loses nothing', async () => {
    await using sessions = await openSessions(database.url, 1);
    const [old] = sessions.all as [Session];
    await old.run(append(1));
    await run(IMPORT);
    const first = await migrate(database.url);
    expect(first.isGenerationRaised).toBe(false);
    expect(first.warnings.join()).toContain(`still there: pid ${old.pid}.`);
    await recordElsewhere(10);
    await old.run(append(1_000));
    await recordElsewhere(100);
    await old.run(append(10_000));
    expect(await reported()).toBe('11111');
    await sessions.close();
    expect(await migrate(database.url)).toMatchObject({ isGenerationRaised: true, warnings: [] });
    await expectSettled('11111');
  });

  it('is waited for', async () => {
    await using sessions = await openSessions(database.url, 1);
    await sessions.all[0]?.run(append(1));
    await run(IMPORT);
    const result = await migrate(database.url, {
      onStep: async ({ step }) => {
        if (step.kind === 'wait') await sessions.close();
      },
    });
    expect(result).toMatchObject({ isGenerationRaised: true, warnings: [] });
    await recordElsewhere(10);
    await expectSettled('11');
  });

  it('is told from those that came later, which the next run does not wait for', async () => {
    await using sessions = await openSessions(database.url, 1);
    await sessions.all[0]?.run(append(1));
    await run(IMPORT);
    expect((await migrate(database.url)).warnings).toHaveLength(1);
    await using later = await openSessions(database.url, 1);
    await later.all[0]?.run(append(10));
    await sessions.all[0]?.run(append(100));
    await sessions.close();
    expect(await migrate(database.url)).toMatchObject({ isGenerationRaised: true, warnings: [] });
    await later.all[0]?.run(append(1_000));
    await recordElsewhere(10_000);
    await expectSettled('11111');
    expect((await planMigration(database.url)).steps).toEqual([]);
  });

  it('is waited for where it left a prepared transaction', async () => {
    const name = `prepared_${process.pid}`;
    await run(`begin; ${append(1)}; prepare transaction '${name}'`);
    await run(IMPORT);
    const { warnings } = await migrate(database.url);
    expect(warnings.join()).toContain(`still there: prepared transaction ${name}`);
    await recordElsewhere(10);
    await run(`commit prepared '${name}'`);
    expect(await migrate(database.url)).toMatchObject({ isGenerationRaised: true, warnings: [] });
    await expectSettled('11');
  });

  it('is not waited for where the cluster has another identifier: it knows no base', async () => {
    await using sessions = await openSessions(database.url, 1);
    await run(`update ledger_settings set system_identifier = 'elsewhere'`);
    await sessions.all[0]?.run(append(1));
    expect(await migrate(database.url)).toMatchObject({ isGenerationRaised: true, warnings: [] });
    await sessions.all[0]?.run(append(10));
    await expectSettled('11');
  });
});

it('is raised by the next run where this one was ended, before whatever step', async () => {
  await run(append(5));
  await run(IMPORT);
  const killed: string[] = [];
  for (let isDone = false; !isDone; ) {
    isDone = await migrate(database.url, {
      onStep: async ({ step }) => {
        const name = `${step.kind}: ${step.subject}`;
        if (killed.includes(name)) return;
        killed.push(name);
        await run(append(5));
        await run(
          `select pg_terminate_backend(pid) from pg_stat_activity
          where application_name = 'microdollar migrate' and datname = current_database()`,
        );
      },
    }).then(
      () => true,
      () => false,
    );
  }
  expect(killed).toHaveLength(9);
  await expectSettled(String(5 + 5 * killed.length));
});
