import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCountersStatement } from '../../src/counter/openCounters.sql.js';
import { settleStatement } from '../../src/counter/settle.sql.js';
import { Settler } from '../../src/counter/settler.js';
import { Sweep } from '../../src/counter/sweep.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { USAGE_LOG, USER_SCOPE } from '../../src/schema/unsettled.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { setExaAllowance } from '../support/exaAllowance.js';
import { openPool } from '../support/openPool.js';
import { isBlocked, openSessions, type Session } from '../support/sessions.js';
import {
  createLedgerFixture,
  foldAll,
  type LedgerFixture,
  PERSONAL_DAILY,
} from './ledgerHarness.js';

const AT = '2025-05-06T07:08:09Z';
const DAY = '2025-05-06';

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  await setExaAllowance(fixture.database.pool, 50);
  // Every write stays unsettled.
  ledger = await fixture.open({ appendAlways: true });
});

afterAll(() => fixture.close());

const invariants = () => checkInvariants(fixture.database.pool);
const isFolded = async () => (await checkFolded(fixture.database.pool)).length === 0;

async function append(user: string, count: number, organization: string | null = null) {
  const events = Array.from({ length: count }, (_, index) => ({
    kilo_user_id: user,
    organization_id: organization,
    cost: index + 1,
    created_at: AT,
  }));
  const results = await ledger.recordUsageBatch(events);
  expect(results.filter(({ status }) => status !== 'recorded')).toEqual([]);
}

describe('a fold', () => {
  it('creates missing rows, settles both logs of every payer, and says how many', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    await append(user, 3);
    await append(user, 2, organization);
    const exa = { kilo_user_id: user, path: '/search', created_at: AT };
    await ledger.recordUsage({ kilo_user_id: user, cost: 0, created_at: AT });
    await fixture.rows(
      `insert into exa_usage_log (id, kilo_user_id, organization_id, cost, path, created_at, position)
       select gen_random_uuid(), $1, o, c, '/search', $2, microdollar_position()
       from (values (null, 80), ($3::uuid, 40)) as v(o, c)`,
      [user, AT, organization],
    );
    expect(await invariants()).toEqual([]);
    // Zero moves no counter, so it has nothing to settle (I6).
    expect(await ledger.getPendingStatus()).toMatchObject({ depth: 7 });
    expect(await ledger.fold()).toEqual({ drained: 7, remaining: 0 });
    expect(await ledger.getPendingStatus()).toEqual({ depth: 0, oldestAgeMs: 0 });
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 6 }]);
    const balance = 'select microdollars_used::integer as used from kilocode_users where id = $1';
    expect(await fixture.rows(balance, [user])).toEqual([{ used: 36 }]);
    expect((await ledger.recordExaUsage({ ...exa, cost: 1 })).new_microdollars_used).toBe(37);
    await fixture.expectExact();
  });

  it('does nothing when nothing is unsettled', async () => {
    await foldAll(ledger);
    const marks =
      'select id, settled_below, exa_settled_below, xmin from kilocode_users order by id';
    const before = await fixture.rows(marks);
    expect(await ledger.fold()).toEqual({ drained: 0, remaining: 0 });
    expect(await fixture.rows(marks)).toEqual(before);
  });

  it('is metered', async () => {
    const user = await fixture.addUser();
    const metered = await fixture.open({ appendAlways: true, groupCommit: false });
    await metered.recordUsage({ kilo_user_id: user, cost: 3 });
    await metered.recordUsage({ kilo_user_id: user, cost: 4 }, { balance: false });
    await sleep(20);
    expect(metered.backlog.depth).toBe(2);
    expect(metered.backlog.oldestAgeMs).toBeGreaterThan(0);
    const status = await metered.getPendingStatus();
    expect(status.depth).toBe(2);
    expect(status.oldestAgeMs).toBeGreaterThan(0);
    const folded = async () => (await metered.metrics.folded.get()).values[0]?.value;
    expect(await folded()).toBe(0);
    await foldAll(metered);
    expect(await folded()).toBe(2);
    expect(metered.backlog).toEqual({ depth: 0, oldestAgeMs: 0 });
  });

  it('settles what is committed beside strangers whose transactions stay open', async () => {
    const user = await fixture.addUser();
    await using sessions = await openSessions(fixture.database.url, 2);
    for (const stranger of sessions.all) {
      await stranger.run('begin');
      await stranger.run('select txid_current()');
    }
    await append(user, 3);
    await foldAll(ledger);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 6 }]);
    expect(await invariants()).toEqual([]);
    await sessions.close();
    await fixture.expectExact();
  });

  it('runs in the background, and stops with the ledger', async () => {
    const user = await fixture.addUser();
    const busy = await fixture.open({ appendAlways: true, backgroundFold: true });
    await busy.recordUsage({ kilo_user_id: user, cost: 3, created_at: AT });
    while (!(await isFolded())) await sleep(10);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 3 }]);
    await busy.close();
    await append(user, 1);
    await sleep(600);
    expect(await isFolded()).toBe(false);
    await fixture.expectExact();
  });

  it('leaves nothing of its own behind when the ledger is closed', async () => {
    const user = await fixture.addUser();
    const closing = await fixture.open({ appendAlways: true, backgroundFold: true });
    const calls = Array.from({ length: 40 }, () =>
      closing.recordUsage({ kilo_user_id: user, cost: 1, created_at: AT }, { balance: false }),
    );
    const closed = closing.close();
    await Promise.all(calls);
    await closed;
    while (!(await isFolded())) await foldAll(ledger);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 40 }]);
  });
});

describe('a fold that dies', () => {
  it('in the middle changes nothing, and the next one does its work', async () => {
    const user = await fixture.addUser();
    await append(user, 4);
    await using sessions = await openSessions(fixture.database.url, 1);
    const folder = sessions.all[0] as Session;
    await folder.run('begin');
    const limits = { youngXids: 0, rowsPerPayer: null };
    for (const { text, values } of [
      openCountersStatement(USAGE_LOG, USER_SCOPE, [user]),
      settleStatement(USER_SCOPE, [user], [true], limits),
    ]) {
      await folder.run(text, values);
    }
    await fixture.rows('select pg_terminate_backend($1)', [folder.pid]);
    await expect(folder.run('commit')).rejects.toThrow();
    expect(await invariants()).toEqual([]);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([]);
    await fixture.expectExact();
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 10 }]);
  });

  it('by a lost connection is begun again, and told', async () => {
    const user = await fixture.addUser();
    await append(user, 4);
    const pool = openPool({
      connectionString: fixture.database.url,
      max: 2,
      application_name: 'doomed fold',
    });
    const retries: string[] = [];
    const settler = new Settler({
      query: queryOnPool(pool, false),
      onRetry: (cause) => retries.push(cause),
    });
    const sweep = new Sweep(queryOnPool(fixture.database.pool, false), settler);
    await using sessions = await openSessions(fixture.database.url, 1);
    const holder = sessions.all[0] as Session;
    await holder.run('begin');
    await holder.run('lock table microdollar_usage_daily in access exclusive mode');
    const folding = sweep.foldAll();
    const doomed = async () =>
      (
        await fixture.rows<{ pid: number }>(
          `select pid from pg_stat_activity
           where application_name = 'doomed fold' and cardinality(pg_blocking_pids(pid)) > 0`,
        )
      )[0]?.pid;
    let pid = await doomed();
    while (pid === undefined) pid = await doomed();
    await fixture.rows('select pg_terminate_backend($1)', [pid]);
    await holder.run('commit');
    expect(await folding).toEqual({ drained: 4, remaining: 0 });
    expect(retries).toEqual(['57P01']);
    await pool.end();
    await fixture.expectExact();
  });
});

describe('an old snapshot', () => {
  it('sees its own moment exactly, while folds go on and their dead rows pile up', async () => {
    const user = await fixture.addUser();
    await append(user, 5);
    const read = `
      select e.total_cost_microdollars::integer as total, b.microdollars_used::integer as used
      from microdollar_usage_daily_exact as e
      join kilocode_user_balances as b using (kilo_user_id)
      where e.kilo_user_id = $1`;
    const before = { total: 15, used: 15 };
    await using sessions = await openSessions(fixture.database.url, 1);
    const reader = sessions.all[0] as Session;
    await reader.run('begin isolation level repeatable read');
    expect(await reader.run(read, [user])).toEqual([before]);
    for (let round = 0; round < 10; round++) {
      await append(user, 4);
      await foldAll(ledger);
    }
    expect(await reader.run(read, [user])).toEqual([before]);
    expect(await ledger.getUserBalance(user)).toBe(115);
    expect(await isBlocked(fixture.database.pool, reader)).toBe(false);
    await reader.run('commit');
    await fixture.expectExact();
  });
});

describe('what a sweep notes', () => {
  const noted = async () =>
    BigInt(
      (
        await fixture.rows<{ below: string }>(
          'select settled_everywhere_below as below from ledger_settings',
        )
      )[0]?.below ?? 0,
    );
  const insertExa = (user: string) =>
    fixture.rows(
      `insert into exa_usage_log (id, kilo_user_id, cost, path, created_at, position)
       values (gen_random_uuid(), $1, 70, '/search', $2, microdollar_position())`,
      [user, AT],
    );

  const HELD: [name: string, write: (user: string) => Promise<unknown>, held: string][] = [
    ['usage', (user) => append(user, 2), 'microdollar_usage_daily'],
    ['Exa', insertExa, 'exa_monthly_usage'],
  ];

  it.each(HELD)('never passes an unsettled row: a held counter of %s', async (_, write, held) => {
    const user = await fixture.addUser();
    await write(user);
    await foldAll(ledger);
    await write(user);
    const before = await noted();
    await using sessions = await openSessions(fixture.database.url, 1);
    const holder = sessions.all[0] as Session;
    await holder.run('begin');
    await holder.run(`select from ${held} where kilo_user_id = $1 for update`, [user]);
    for (let round = 0; round < 3; round++) {
      const neighbour = await fixture.addUser();
      await append(neighbour, 1);
      expect((await ledger.fold()).remaining).toBeGreaterThan(0);
      // The checker knows the note, and what must not lie below it.
      expect(await invariants()).toEqual([]);
    }
    await holder.run('commit');
    await foldAll(ledger);
    // A note lags while transactions of other databases are open.
    await expect
      .poll(async () => {
        await ledger.fold();
        return (await noted()) > before;
      })
      .toBe(true);
    await fixture.expectExact();
  });

  it('never passes a row of a transaction that is open', async () => {
    const user = await fixture.addUser();
    await using sessions = await openSessions(fixture.database.url, 1);
    const writer = sessions.all[0] as Session;
    await writer.run('begin');
    await writer.run(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
       values (gen_random_uuid(), $1, 70, $2, microdollar_position())`,
      [user, AT],
    );
    await append(user, 1);
    for (let round = 0; round < 3; round++) await ledger.fold();
    await writer.run('commit');
    expect(await invariants()).toEqual([]);
    await fixture.expectExact();
  });
});

/** Last: every check after them has their rows to read. */
describe('a fold of many', () => {
  it('settles more payers, rows and missing keys than one statement takes', async () => {
    const users = await Promise.all(Array.from({ length: 250 }, () => fixture.addUser()));
    const deep = await fixture.addUser();
    const organization = await fixture.addOrganization();
    await fixture.rows(
      `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at, position)
       select gen_random_uuid(), u, null::uuid, n, $2::timestamptz - n * interval '1 day',
         microdollar_position()
       from unnest($1::text[]) as u
       cross join generate_series(1, 3) as n
       union all
       select gen_random_uuid(), $3, null, n % 7, $2::timestamptz - n * interval '1 minute',
         microdollar_position()
       from generate_series(1, 9000) as n
       union all
       select gen_random_uuid(), u, $4::uuid, 1 + n, $2::timestamptz - n * interval '1 day',
         microdollar_position()
       from unnest($1::text[]) as u
       cross join generate_series(1, 12) as n`,
      [users, AT, deep, organization],
    );
    expect(await invariants()).toEqual([]);
    expect(await ledger.fold()).toEqual({ drained: 250 * 3 + 9000 + 250 * 12, remaining: 0 });
    await fixture.expectExact();
  });

  it('finds a payer behind more of them than one look takes', async () => {
    await fixture.rows(
      `insert into kilocode_users (id) select 'many ' || i from generate_series(1, 2100) as i`,
    );
    const last = await fixture.addUser(`zzz ${randomUUID()}`);
    await append(last, 3);
    expect((await ledger.getPendingStatus()).depth).toBe(3);
    expect(await ledger.fold()).toEqual({ drained: 3, remaining: 0 });
    await fixture.expectExact();
  });
});
