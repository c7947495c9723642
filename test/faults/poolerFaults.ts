import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import type { Pooler, PoolerOptions } from '../support/pooler/transactionPooler.js';
import { ClientBook } from './support/clientBook.js';
import { createRandom, IS_LONG } from './support/scale.js';
import { createAccounts, drawEvent, startTraffic, untilMoreAnswers } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughLibrary, throughTransaction } from './support/ways.js';

const CRASHES = IS_LONG ? 20 : 2;

type StartPooler = (databaseUrl: string, options: PoolerOptions) => Promise<Pooler>;

/** A ledger behind a pooler in transaction mode. */
export function describePoolerFaults(startPooler: StartPooler): void {
  let database: TestDatabase;

  beforeEach(async () => {
    database = await createTestDatabase();
  });

  afterEach(() => database.drop());

  it('hands its one connection on after a transaction, with what was left on it', async () => {
    const pooler = await startPooler(database.url, { poolSize: 1 });
    const open = async (application_name: string) => {
      const client = new pg.Client({ connectionString: pooler.url, application_name });
      client.on('error', () => {});
      await client.connect();
      const ask = async (sql: string) => Object.values((await client.query(sql)).rows[0] ?? {})[0];
      return { client, ask };
    };
    try {
      const [one, other] = [await open('one'), await open('other')];
      const backend = await one.ask('select pg_backend_pid()');
      expect(await other.ask('select pg_backend_pid()')).toBe(backend);
      await one.ask("set work_mem to '7MB'");
      expect(await other.ask('show work_mem')).toBe('7MB');
      expect(await other.ask('show application_name')).toBe('other');
      await one.ask('begin');
      const waits = other.ask('show application_name');
      expect(await one.ask('show application_name')).toBe('one');
      await one.ask('commit');
      expect(await waits).toBe('other');
      // Left amid a transaction: it is rolled back, and the connection is no longer used.
      await one.ask('begin');
      one.client.connection.stream.destroy();
      expect(await other.ask('select pg_backend_pid()')).not.toBe(backend);
      await other.client.end();
    } finally {
      await pooler.stop();
    }
  });

  it(
    'without prepared statements: exact, also when the pooler crashes',
    async () => {
      const random = createRandom('pooler');
      const book = new ClientBook();
      const accounts = await createAccounts(database.pool);
      const pooler = await startPooler(database.url, { poolSize: 3 });
      const ledger = await createLedger({
        databaseUrl: pooler.url,
        preparedStatements: false,
      });
      const common = { book, random, accounts };
      const viaTransaction = throughTransaction(pooler.url, () => 2);
      const streams = [
        startTraffic({
          ...common,
          clients: 10,
          send: throughLibrary(() => ledger),
          maxBatch: 6,
          exa: true,
        }),
        startTraffic({ ...common, clients: 2, send: viaTransaction, maxBatch: 3 }),
      ];
      for (let crash = 0; crash < CRASHES; crash++) {
        await untilMoreAnswers(book, 100);
        await sleep(random.between(0, 100));
        await pooler.crash();
      }
      await untilMoreAnswers(book, 100);
      await Promise.all(streams.map((stream) => stream.stop()));

      const [user = ''] = accounts.users;
      const today = new Date().toISOString().slice(0, 10);
      const days = await ledger.getDailyUsage({ kilo_user_id: user, from: today, until: today });
      const { rows } = await database.pool.query<{ total: string }>(
        `select total_cost_microdollars as total
        from microdollar_usage_daily_exact
        where kilo_user_id = $1
          and organization_id is null
          and usage_date = $2::date`,
        [user, today],
      );
      expect(days[0]?.total_cost_microdollars).toBe(Number(rows[0]?.total));
      await ledger.close();
      await pooler.stop();
      await expectNothingLost(book, database);
    },
    180_000 + CRASHES * 15_000,
  );

  it('with prepared statements: refused when it is opened, and the message names the remedy', async () => {
    const pooler = await startPooler(database.url, { poolSize: 3 });
    try {
      await expect(createLedger({ databaseUrl: pooler.url })).rejects.toMatchObject({
        code: 'internal',
        message: expect.stringContaining('preparedStatements: false'),
      });
    } finally {
      await pooler.stop();
    }
  });

  it('with prepared statements, let through by the pooler: errors with the remedy, never a wrong total', async () => {
    const random = createRandom('swapped');
    const book = new ClientBook();
    const accounts = await createAccounts(database.pool);
    const pooler = await startPooler(database.url, { poolSize: 2, ignoredParameters: 'options' });
    const ledger = await createLedger({ databaseUrl: pooler.url, groupCommit: false });
    const refusals: string[] = [];
    const send = throughLibrary(() => ledger);
    try {
      // Two connections change hands: soon one has what another client prepared.
      while (refusals.length === 0) {
        const events = Array.from({ length: 12 }, () => drawEvent({ random, accounts }));
        for (const event of events) book.send(event);
        const outcomes = await Promise.all(events.map(async (event) => (await send([event]))[0]));
        for (const outcome of outcomes) {
          if (outcome instanceof Error) refusals.push(outcome.message);
          else if (outcome) book.acknowledge(outcome);
        }
      }
    } finally {
      await ledger.close();
      await pooler.stop();
    }
    for (const refusal of refusals) expect(refusal).toContain('preparedStatements: false');
    await expectNothingLost(book, database);
  });
}
