import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { settleStatement } from '../../src/counter/settle.sql.js';
import { ROWS_PER_TRANSACTION } from '../../src/db/migrate/restampRows.js';
import { isKnownCluster, migrate, planMigration } from '../../src/db/migrate.js';
import { UNKNOWN_GENERATION, USER_SCOPE } from '../../src/schema/unsettled.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { openSessions } from '../support/sessions.js';
import { TEST_SCHEMA_SQL } from '../support/testSchema.js';

let database: TestDatabase;
/** A session for each query: older ones would be waited for (generationSessions.test.ts). */
let pool: pg.Pool;
const query = async (text: string, values: unknown[] = []) => (await pool.query(text, values)).rows;

beforeEach(async () => {
  database = await createTestDatabase();
  pool = openPool({ connectionString: database.url, maxUses: 1 });
  await migrate(database.url);
  await query(`insert into kilocode_users (id) values ('ada'), ('bob')`);
});

afterEach(async () => {
  await pool.end();
  await database.drop();
});

const APPEND = `
  insert into microdollar_usage (id, kilo_user_id, cost, position)
  values (gen_random_uuid(), 'ada', 5, microdollar_position())`;

/** On a session of its own, which has not asked for the generation yet. */
async function append(): Promise<void> {
  await using sessions = await openSessions(database.url, 1);
  await sessions.all[0]?.run(APPEND);
}

async function settle(): Promise<void> {
  await using sessions = await openSessions(database.url, 1);
  const [session] = sessions.all;
  await session?.run(
    `select microdollar_open_daily('ada', null, (now() at time zone 'UTC')::date)`,
  );
  await session?.client.query(
    settleStatement(USER_SCOPE, ['ada'], [true], { youngXids: 0, rowsPerPayer: null }),
  );
}

const countUnknown = async (): Promise<number> => {
  const [row] = await query(
    `select count(*)::integer as n from microdollar_usage where position >= ${UNKNOWN_GENERATION}`,
  );
  return row.n;
};

const countedOf = async (user: string): Promise<string> => {
  const [row] = await query('select microdollars_used as used from kilocode_users where id = $1', [
    user,
  ]);
  return row.used;
};

const reportedOf = async (user: string): Promise<string> => {
  const [row] = await query(
    'select microdollars_used as used from kilocode_user_balances where kilo_user_id = $1',
    [user],
  );
  return row.used;
};

const AHEAD = '((generation << 44) + txid_snapshot_xmax(txid_current_snapshot()) + 1000000)';

/** Ways in which ids of another cluster come, and whether `createLedger` can tell. */
const FOREIGN = [
  {
    what: 'the settings name another cluster',
    change: `update ledger_settings set system_identifier = 'of the cluster that was dumped'`,
    isTold: true,
  },
  {
    what: 'a copy of the cluster took in a dump of the original: ids have not come so far',
    change: `update ledger_settings set position_seen = ${AHEAD}`,
    isTold: true,
  },
  {
    what: 'marks came without the settings',
    change: `update kilocode_users set settled_below = (select ${AHEAD} from ledger_settings)`,
    isTold: false,
  },
  {
    what: 'marks of a later generation came without the settings',
    change: 'update organizations set exa_settled_below = (7::bigint << 44) + 5',
    isTold: false,
  },
  {
    what: 'a barrier of a soft delete came without the settings',
    change: `update kilocode_users set scrub_after_xid = '900000000000' where id = 'bob'`,
    isTold: false,
  },
] as const;

describe('a cluster whose transaction ids are not those of the data', () => {
  it.each(FOREIGN)('is found where $what; what is written then settles', async (each) => {
    await query(`insert into organizations (name) values ('one')`);
    await append();
    await settle();
    await query(each.change);
    expect(await isKnownCluster(pool)).toBe(!each.isTold);
    if (each.isTold) {
      await append();
      await settle();
      expect([await countUnknown(), await countedOf('ada'), await reportedOf('ada')]).toEqual([
        1,
        '5',
        '10',
      ]);
    }
    const isToldById = each === FOREIGN[0];
    expect((await planMigration(database.url)).steps.map((step) => step.kind)).toEqual([
      ...(isToldById ? [] : ['hold_positions', 'wait']),
      'raise_generation',
      'wait',
      ...Array.from({ length: 4 }, () => 'restamp_rows'),
      'finish',
    ]);
    expect(await migrate(database.url)).toMatchObject({ isGenerationRaised: true, warnings: [] });
    expect(await isKnownCluster(pool)).toBe(true);
    const before = await reportedOf('ada');
    await append();
    expect(await reportedOf('ada')).toBe(String(Number(before) + 5));
    await settle();
    expect(await countedOf('ada')).toBe(await reportedOf('ada'));
    expect(await checkInvariants(pool)).toEqual([]);
    expect((await planMigration(database.url)).steps).toEqual([]);
  });

  it('settles nothing, so loses nothing, where marks lie ahead of its ids', async () => {
    await query(`
      update kilocode_users set settled_below = (select ${AHEAD} from ledger_settings);
      update ledger_settings set position_seen = ${AHEAD}`);
    await append();
    expect(await reportedOf('ada')).toBe('5');
    await migrate(database.url);
    await settle();
    expect([await countedOf('ada'), await reportedOf('ada')]).toEqual(['5', '5']);
  });

  it('has as many rows restamped as there are, in several transactions', async () => {
    await query(`update ledger_settings set system_identifier = 'elsewhere'`);
    await query(`
      insert into microdollar_usage (id, kilo_user_id, cost, position)
      select gen_random_uuid(), case when n % 2 = 0 then 'ada' else 'bob' end, n,
        microdollar_position()
      from generate_series(1, ${2 * ROWS_PER_TRANSACTION + 100}) as n`);
    await migrate(database.url);
    expect(await countUnknown()).toBe(0);
    const [row] = await query(
      'select count(distinct position)::integer as transactions from microdollar_usage',
    );
    expect(row.transactions).toBeGreaterThan(2);
  });

  it('is finished by the next migrate where this one was ended, before whatever step', async () => {
    await query(`update ledger_settings set system_identifier = 'elsewhere'`);
    await append();
    const killed: string[] = [];
    for (let isDone = false; !isDone; ) {
      isDone = await migrate(database.url, {
        onStep: async ({ step }) => {
          const name = `${step.kind}: ${step.subject}`;
          if (killed.includes(name)) return;
          killed.push(name);
          expect(await reportedOf('ada')).toBe('5');
          await query(
            `select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = 'microdollar migrate' and datname = current_database()`,
          );
        },
      }).then(
        () => true,
        () => false,
      );
    }
    expect(killed).toHaveLength(7);
    expect(await countUnknown()).toBe(0);
    const [settings] = await query('select generation, generation_raised_xid from ledger_settings');
    expect(settings).toEqual({ generation: '2', generation_raised_xid: null });
  });

  it('counts what a transaction from before writes later, and says that it is not settled', async () => {
    await query(`update ledger_settings set system_identifier = 'elsewhere'`);
    await using sessions = await openSessions(database.url, 1);
    const [older] = sessions.all;
    await older?.run('begin isolation level repeatable read');
    await older?.run(APPEND);
    const { warnings } = await migrate(database.url);
    expect(warnings.join()).toContain('run again after they have ended');
    await older?.run(APPEND);
    await older?.run('commit');
    await settle();
    expect([await countUnknown(), await reportedOf('ada')]).toEqual([2, '10']);
    expect(await migrate(database.url)).toMatchObject({ isGenerationRaised: false, warnings: [] });
    await settle();
    expect([await countUnknown(), await countedOf('ada')]).toEqual([0, '10']);
  });

  it('waits for such a transaction, for a while', async () => {
    await query(`update ledger_settings set system_identifier = 'elsewhere'`);
    await using sessions = await openSessions(database.url, 1);
    const [older] = sessions.all;
    await older?.run('begin');
    await older?.run(APPEND);
    const steps: string[] = [];
    const migrating = migrate(database.url, { onStep: ({ step }) => void steps.push(step.kind) });
    while (!steps.includes('wait')) await sleep(5);
    await older?.run('commit');
    expect((await migrating).warnings).toEqual([]);
    expect(await countUnknown()).toBe(0);
  });

  it('is left to the owner by a role that may only read, which is told so', async () => {
    await query(`update ledger_settings set system_identifier = 'elsewhere'`);
    const role = `reader_${process.pid}`;
    await query(`create role ${role} login password 'p'`);
    await query(`grant usage on schema ${TEST_SCHEMA_SQL} to ${role}`);
    await query(`grant select on all tables in schema ${TEST_SCHEMA_SQL} to ${role}`);
    const url = new URL(database.url);
    url.username = role;
    url.password = 'p';
    const { warnings } = await migrate(url.href);
    expect(warnings.join()).toContain('as the owner');
    await query(`drop owned by ${role}`);
    await query(`drop role ${role}`);
  });
});

describe('a cluster that is known', () => {
  it('is noted by the first migration, and nothing is done by the next', async () => {
    const [row] = await query(`
      select system_identifier = (select system_identifier::text from pg_control_system()) as same,
        generation
      from ledger_settings`);
    expect(row).toEqual({ same: true, generation: '1' });
    expect((await planMigration(database.url)).steps).toEqual([]);
  });

  it('is known where the owner may not read the identifier', async () => {
    await query('revoke execute on function pg_control_system() from public');
    const role = `owner_${process.pid}`;
    await query(`create role ${role}`);
    await query(`grant select on ledger_settings to ${role}`);
    await query(`grant usage, create on schema ${TEST_SCHEMA_SQL} to ${role}`);
    await query(`alter function microdollar_generation() owner to ${role}`);
    try {
      expect(await isKnownCluster(pool)).toBe(true);
      await query(`update ledger_settings set position_seen = ${AHEAD}`);
      await using sessions = await openSessions(database.url, 1);
      const [fresh] = sessions.all;
      if (fresh) expect(await isKnownCluster(fresh.client)).toBe(false);
    } finally {
      await query('alter function microdollar_generation() owner to current_user');
      await query(`drop owned by ${role}`);
      await query(`drop role ${role}`);
    }
  });
});
