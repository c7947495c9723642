import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { migrate } from '../../src/db/migrate.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { migrateUntil } from '../support/migrateUntil.js';
import { lockWaits, openSessions, type Session } from '../support/sessions.js';

/** Views that are replaced while somebody reads: the migration gives way, and nobody is ended for it. */
let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase({ empty: true });
  // All before 0006_fenced_views.
  await migrateUntil(database.url, 6);
});
afterAll(() => database.drop());

const DAILY = 'select count(*) from microdollar_usage_daily_exact';
const EXA = 'select count(*) from exa_monthly_usage_exact';
const DEADLOCK_TIMEOUT_MS = 1_000;

it('lets a transaction read one view after the other, though it holds what is wanted', async () => {
  await using sessions = await openSessions(database.url, 2);
  const [reader, other] = sessions.all as [Session, Session];
  // The migration gives way after half a second; on a busy machine, when it next has a processor.
  for (const session of [reader, other]) await session.run(`set deadlock_timeout = '3s'`);
  await reader.run('begin');
  await reader.run(DAILY);
  const migrating = migrate(database.url);
  await expect.poll(() => lockWaits(database.pool), { interval: 5 }).not.toEqual([]);
  // The migration has found no deadlock by now: whoever waits next would be the one to find it.
  await sleep(DEADLOCK_TIMEOUT_MS + 100);
  const reads = await Promise.allSettled([reader.run(EXA), other.run(EXA), other.run(DAILY)]);
  expect(reads.filter(({ status }) => status === 'rejected')).toEqual([]);
  await reader.run('commit');
  expect((await migrating).applied).toContain('0006_fenced_views');
  expect(await checkInvariants(database.pool)).toEqual([]);
});
