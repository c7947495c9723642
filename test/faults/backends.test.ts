import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { openSessions } from '../support/sessions.js';
import { ClientBook } from './support/clientBook.js';
import { createRandom, IS_LONG, type Random } from './support/scale.js';
import { createAccounts, startTraffic } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughLibrary, throughPool, throughTransaction } from './support/ways.js';

const ROUNDS = IS_LONG ? 60 : inForm(2, 4);
const LOCK_TIMEOUT_MS = 60;
const STATEMENT_TIMEOUT_MS = 120;

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(() => database.drop());

const signalOne = (signal: 'pg_terminate_backend' | 'pg_cancel_backend') => `
  select ${signal}(pid)
  from (
    select pid
    from pg_stat_activity
    where datname = current_database()
      and application_name like $1
      and ($2 = '' or state = $2)
    order by random()
    limit 1
  ) as victim`;

const CAUSES = ['57P01', '55P03'];

async function hasRetried({ metrics }: Ledger): Promise<boolean> {
  const { values } = await metrics.retries.get();
  return CAUSES.every((cause) => values.some(({ labels }) => labels.cause === cause));
}

/** What an administrator, a migration or a careless program does to the ledger's sessions. */
async function disturb(random: Random): Promise<void> {
  const { pool } = database;
  // Several tries: a statement takes about as long as looking for it does.
  for (let attempt = 0; attempt < 20; attempt++) {
    await pool.query(signalOne('pg_terminate_backend'), ['microdollar %', 'active']);
    await pool.query(signalOne('pg_cancel_backend'), ['microdollar %', 'active']);
    await sleep(random.between(0, 5));
  }
  await pool.query(signalOne('pg_terminate_backend'), ['host %', '']);
  await pool.query(signalOne('pg_cancel_backend'), ['host pool', 'active']);
  await using sessions = await openSessions(database.url, 1);
  const [session] = sessions.all;
  // Longer than the lock timeout: a DDL statement of a stranger.
  await session?.run('begin');
  await session?.run('lock table microdollar_usage in exclusive mode');
  await sleep(STATEMENT_TIMEOUT_MS * 2);
  await session?.run('rollback');
  // A stranger that holds the hot rows idle until the server ends it: nobody waits (I4).
  await session?.run('begin');
  await session?.run('select from kilocode_users for update');
  await session?.run('select from microdollar_usage_daily for update');
  // From here on: on a busy machine more than that can pass between the statements before.
  await session?.run('set idle_in_transaction_session_timeout = 100');
  await sleep(200);
}

/** On a busy machine its first statements may take longer than it allows. */
async function openImpatient(): Promise<Ledger> {
  for (;;) {
    const ledger = await createLedger({
      databaseUrl: database.url,
      lockTimeoutMs: LOCK_TIMEOUT_MS,
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    }).catch(() => null);
    if (ledger) return ledger;
  }
}

describe('sessions that are ended under load', () => {
  it(
    'by an administrator, by timeouts and while idle in a transaction: all is written once',
    async () => {
      const random = createRandom('backends');
      const book = new ClientBook();
      const accounts = await createAccounts(database.pool);
      const ledger = await openImpatient();
      const impatient = new URL(database.url);
      impatient.searchParams.set('options', '-c idle_in_transaction_session_timeout=50');
      const common = { book, random, accounts };
      // Most transactions stay idle for longer than the server allows.
      const viaTransaction = throughTransaction(impatient.href, () => random.between(0, 200));
      const viaPool = throughPool(database.url);
      const streams = [
        startTraffic({
          ...common,
          clients: 10,
          send: throughLibrary(() => ledger),
          maxBatch: 6,
          exa: true,
        }),
        startTraffic({ ...common, clients: 2, send: viaTransaction, maxBatch: 2 }),
        startTraffic({ ...common, clients: 4, send: viaPool }),
      ];
      // Which session is in a statement when it is ended is luck: on until one was, and one met a lock.
      for (let round = 0; round < ROUNDS || !(await hasRetried(ledger)); round++) {
        await disturb(random);
      }
      await Promise.all(streams.map((stream) => stream.stop()));
      await ledger.close();
      await viaPool.end();
      await expectNothingLost(book, database);
    },
    180_000 + ROUNDS * 10_000,
  );
});
