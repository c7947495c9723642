import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool } from '../../src/db/pool.js';
import { queryOnPool } from '../../src/db/query.js';
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
    statementTimeoutMs: 50,
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

describe('a connection of a pool', () => {
  const query = <Row>(text: string) =>
    queryOnPool(pool, true)<Row>({ name: text.slice(0, 60), text, values: [] });
  const pidOf = async () =>
    (await query<{ pid: number }>('select pg_backend_pid() as pid'))[0]?.pid;

  it.each([
    ['55P03', 'a lock', 'select from held for update'],
    ['57014', 'a statement timeout', 'select pg_sleep(10)'],
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
