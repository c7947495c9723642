import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { createTestDatabase, once, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { SEED_ROWS, SEED_SCHEMA, SEED_WRITE } from '../support/seedSchema.sql.js';

const seedTemplate = once(async () => {
  const database = await createTestDatabase({ empty: true, kept: true });
  await database.pool.query(SEED_SCHEMA);
  await database.pool.query(SEED_ROWS);
  await database.drop();
  return database.name;
});

/** A database of the seed's program, with rows. */
export async function createSeedDatabase(): Promise<TestDatabase> {
  return await createTestDatabase({ template: await seedTemplate() });
}

export interface LiveWriters extends AsyncDisposable {
  /** So far. */
  writes(): number;
  /** Failures of writes, a wait longer than the writers' lock timeout among them. */
  failures: string[];
  stop(): Promise<void>;
}

/**
 * Sessions that write as the seed's program does, one after the other, until stopped. Each has a
 * lock timeout, so that a write that waits longer is a failure.
 */
export async function startLiveWriters(
  pool: pg.Pool,
  options: { sessions: number; lockTimeoutMs: number },
): Promise<LiveWriters> {
  const failures: string[] = [];
  let writes = 0;
  let isStopped = false;
  const work = async (client: pg.PoolClient, session: number) => {
    await client.query(`set lock_timeout = ${options.lockTimeoutMs}`);
    for (let n = 0; !isStopped; n++) {
      // Two sessions a user: they meet on its daily row, as live traffic does.
      const user = `user ${1 + Math.floor(session / 2) + (n % 3)}`;
      await client.query(SEED_WRITE, [user, 1 + (n % 50)]).then(
        () => writes++,
        (error: Error) => failures.push(error.message),
      );
      // Some hundred writes a second meet every step; more would only take the processors from it.
      await sleep(inForm(15, 3));
    }
    await client.query('reset lock_timeout');
  };
  const running = await Promise.all(
    Array.from({ length: options.sessions }, async (_, session) => {
      const client = await pool.connect();
      return { done: work(client, session).finally(() => client.release()) };
    }),
  );
  const stop = async () => {
    isStopped = true;
    await Promise.all(running.map((each) => each.done));
  };
  return { writes: () => writes, failures, stop, [Symbol.asyncDispose]: stop };
}
