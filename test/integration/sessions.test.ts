import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import {
  isBlocked,
  lockWaits,
  lockWaitsDuring,
  openSessions,
  type Session,
  type Sessions,
  untilBlocked,
} from '../support/sessions.js';

let database: TestDatabase;
let sessions: Sessions;
let holder: Session;
let waiter: Session;

const LOCK_USER = `select from kilocode_users where id = 'u' for update`;

beforeEach(async () => {
  database = await createTestDatabase();
  await database.pool.query(`insert into kilocode_users (id) values ('u')`);
  sessions = await openSessions(database.url, 2);
  [holder, waiter] = sessions.all as [Session, Session];
});

afterEach(async () => {
  await sessions.close();
  await database.drop();
});

describe('what tells whether a statement waits', () => {
  it('sees a session that waits for a row, who holds it, and its end', async () => {
    await holder.run('begin');
    await holder.run(LOCK_USER);
    const waiting = waiter.run(LOCK_USER);
    await untilBlocked(database.pool, waiter, waiting);
    expect(await isBlocked(database.pool, waiter)).toBe(true);
    expect(await isBlocked(database.pool, holder)).toBe(false);
    expect(await lockWaits(database.pool)).toMatchObject([
      { pid: waiter.pid, query: LOCK_USER, blockedBy: [holder.pid] },
    ]);
    await holder.run('commit');
    await waiting;
    expect(await lockWaits(database.pool)).toEqual([]);
  });

  it('names the table of a table lock', async () => {
    await holder.run('begin');
    await holder.run('lock table organizations');
    const waiting = waiter.run('select from organizations');
    await untilBlocked(database.pool, waiter, waiting);
    expect(await lockWaits(database.pool)).toMatchObject([
      { relation: 'organizations', lockType: 'relation', mode: 'AccessShareLock' },
    ]);
    await holder.run('rollback');
    await waiting;
  });

  it('collects the waits of a stretch of work', async () => {
    await holder.run('begin');
    await holder.run(LOCK_USER);
    const waits = await lockWaitsDuring(database.pool, async (seen) => {
      const waiting = waiter.run(LOCK_USER);
      await untilBlocked(database.pool, waiter, waiting);
      while (!seen.some(({ pid }) => pid === waiter.pid)) await sleep(5);
      await holder.run('commit');
      await waiting;
    });
    expect(waits.map(({ pid }) => pid)).toContain(waiter.pid);
  });

  it('throws when the statement ends without waiting', async () => {
    const statement = waiter.run(LOCK_USER);
    await expect(untilBlocked(database.pool, waiter, statement)).rejects.toThrow('without waiting');
  });

  it('closes sessions that wait or hold locks', async () => {
    await holder.run('begin');
    await holder.run(LOCK_USER);
    const waiting = waiter.run(LOCK_USER).catch(() => 'ended');
    const pids = [holder.pid, waiter.pid];
    await sessions.close();
    // Either it was ended, or the lock of the other that was ended first let it through.
    await waiting;
    const left = await database.pool.query(
      'select pid from pg_stat_activity where pid = any ($1)',
      [pids],
    );
    expect(left.rows).toEqual([]);
    await database.pool.query(`delete from kilocode_users where id = 'u'`);
  });
});
