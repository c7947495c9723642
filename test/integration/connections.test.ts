import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool } from '../../src/db/pool.js';
import { queryInTurns, queryOnPool } from '../../src/db/query.js';
import { sqlStateOf } from '../../src/db/sqlstate.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * A connection costs a process of the server, and each statement's plan anew: what a statement is
 * refused for must not cost the connection. Whoever meets a lock would wait for another to be opened.
 */
let fixture: LedgerFixture;
let sessions: Sessions;
let holder: Session;
let pool: pg.Pool;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  sessions = await openSessions(fixture.database.url, 1);
  holder = sessions.all[0] as Session;
  await holder.run('create table held (id int primary key)');
  await holder.run('insert into held values (1)');
  pool = createPool({
    url: fixture.database.url,
    size: 1,
    applicationName: 'one',
    lockTimeoutMs: 5,
    // What does not sleep is not to meet it, on however busy a machine.
    statementTimeoutMs: 3_000,
  });
});

afterAll(async () => {
  await pool.end();
  await sessions.close();
  await fixture.close();
});

const backends = async (application: string): Promise<number[]> =>
  (
    await fixture.rows(
      'select pid from pg_stat_activity where application_name = $1 and datname = current_database()',
      [application],
    )
  ).map(({ pid }) => pid as number);

describe.each([
  ['asked for by each statement', queryOnPool],
  ['kept for the turn', queryInTurns],
])('a connection of a pool, %s,', (_, queryOf) => {
  const query = <Row>(text: string) =>
    queryOf(pool, true)<Row>({ name: text.slice(0, 60), text, values: [] });
  const pidOf = async () =>
    (await query<{ pid: number }>('select pg_backend_pid() as pid'))[0]?.pid;

  it.each([
    ['55P03', 'a lock', 'select from held for update'],
    ['57014', 'a statement timeout', 'select pg_sleep(60)'],
    ['22012', 'a value', 'select 1 / (select 0)'],
    ['23505', 'a key that is there', 'insert into held values (2), (2)'],
  ])('stays after %s: %s', async (state, _, text) => {
    await holder.run('begin');
    await holder.run('select from held for update');
    const before = await pidOf();
    const error = await query(text).catch((refused: unknown) => refused);
    expect(sqlStateOf(error)).toBe(state);
    expect(await pidOf()).toBe(before);
    await holder.run('rollback');
  });

  it('is another after what it may keep failing for', async () => {
    const before = await pidOf();
    const error = await query('select from nothing_of_that_name').catch((e: unknown) => e);
    expect(sqlStateOf(error)).toBe('42P01');
    expect(await pidOf()).not.toBe(before);
  });

  it('that ends between two statements of a transaction ends neither process nor pool', async () => {
    const client = await pool.connect();
    await client.query('begin');
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const ended = new Promise((resolve) => client.once('end', resolve));
    await holder.run('select pg_terminate_backend($1, 10000)', [rows[0]?.pid]);
    await ended;
    const error = await client.query('commit').catch((lost: Error) => lost);
    expect(error).toBeInstanceOf(Error);
    client.release(error as Error);
    expect(await pidOf()).toBeGreaterThan(0);
  });
});

describe('statements in turns', () => {
  const SAME = { name: 'pid', text: 'select pg_backend_pid() as pid', values: [] };

  it('keep the connection until the loop turns, unless somebody waits for it', async () => {
    const query = queryInTurns(pool, true);
    await query(SAME);
    expect(pool.idleCount).toBe(0);
    await query(SAME);
    const waiting = pool.connect();
    const client = await waiting;
    client.release();
    await query(SAME);
    await new Promise(setImmediate);
    expect([pool.idleCount, pool.totalCount]).toEqual([1, 1]);
    const [first, ...others] = await Promise.all(Array.from({ length: 5 }, () => query(SAME)));
    expect(others).toEqual(Array.from({ length: 4 }, () => first));
  });

  it('read as pg does, and ask for the columns once', async () => {
    const values = ['a "b"', 7, true, null, '{1,2}'];
    const text = `select $1::text as text, $2::int as int, $3::boolean as boolean, $4::text as nothing,
      $5::bigint[] as list, 9007199254740993::bigint as big, '2026-01-02 03:04:05Z'::timestamptz as instant,
      n from generate_series(1, 3) as n where n > $2::int - 6`;
    const expected = await queryOnPool(pool, false)({ name: '', text, values });
    const query = queryInTurns(pool, true);
    const client = await pool.connect();
    const described: string[] = [];
    const { connection } = client as unknown as { connection: NodeJS.EventEmitter };
    const note = () => described.push('columns');
    connection.on('rowDescription', note);
    client.release();
    for (let turn = 0; turn < 3; turn++) {
      expect(await query({ name: 'read', text, values })).toEqual(expected);
    }
    expect(
      await query({ name: 'read', text, values: [...values.slice(0, 1), 9, null, null, null] }),
    ).toEqual([]);
    expect(described).toEqual(['columns']);
    connection.off('rowDescription', note);
  });

  it('refuse another text under a name, and go on', async () => {
    const query = queryInTurns(pool, true);
    const one = { name: 'one', text: 'select 1 as n', values: [] };
    expect(await query(one)).toEqual([{ n: 1 }]);
    await expect(query({ ...one, text: 'select 2 as n' })).rejects.toThrow('is another one');
    expect(await query(one)).toEqual([{ n: 1 }]);
  });

  it('go on after one whose values the server refuses, and refuse what is no value', async () => {
    const query = queryInTurns(pool, true);
    const half = (by: unknown) =>
      query({ name: 'half', text: 'select 6 / $1::int as n', values: [by] });
    expect(sqlStateOf(await half('x').catch((refused: unknown) => refused))).toBe('22P02');
    expect(await half(2)).toEqual([{ n: 3 }]);
    expect(sqlStateOf(await half(0).catch((refused: unknown) => refused))).toBe('22012');
    expect(await half(3)).toEqual([{ n: 2 }]);
    await expect(half({})).rejects.toThrow(TypeError);
    expect(await half(6)).toEqual([{ n: 1 }]);
  });
});

describe('a redelivery whose twin is held', () => {
  it('closes no connection of those who write, however often it tries', async () => {
    const user = await fixture.addUser();
    const ledger = await fixture.open({ lockTimeoutMs: 600_000 });
    const event = { id: randomUUID(), kilo_user_id: user, cost: 1 };
    await ledger.recordUsage({ kilo_user_id: user, cost: 1 });
    await holder.run('begin');
    await insertUsageAndMetadataWithBalanceUpdate(holder.client, event);
    const writing = await backends('microdollar write');
    const redelivered = ledger.recordUsage(event);
    const tries = async () => (await ledger.metrics.retries.get()).values[0]?.value ?? 0;
    while ((await tries()) < 1) await holder.run('select pg_sleep(0.01)');
    const aside = await backends('microdollar aside');
    while ((await tries()) < 3) await holder.run('select pg_sleep(0.01)');
    expect(await backends('microdollar write')).toEqual(expect.arrayContaining(writing));
    expect(await backends('microdollar aside')).toEqual(expect.arrayContaining(aside));
    await holder.run('rollback');
    expect(await redelivered).toMatchObject({ status: 'recorded' });
    await fixture.expectExact();
  });
});
