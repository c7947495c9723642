import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { migrate } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { migrateUntil } from '../support/migrateUntil.js';
import { ClientBook, EXA_ALLOWANCE_MICRODOLLARS } from './support/clientBook.js';
import { createRandom, IS_LONG } from './support/scale.js';
import { createAccounts, startTraffic, untilMoreAnswers } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughLibrary, throughTransaction } from './support/ways.js';

const ROUNDS = IS_LONG ? 20 : 2;
/** Tables and functions of the first version; everything since comes under load. */
const FIRST_VERSION = 2;

let database: TestDatabase;

afterEach(() => database.drop());

describe('migrations while writers run', () => {
  it(
    'from the first version: writers go on, nothing is lost',
    async () => {
      for (let round = 0; round < ROUNDS; round++) {
        database = await createTestDatabase({ empty: true });
        await migrateUntil(database.url, FIRST_VERSION);
        const random = createRandom(`migration ${round}`);
        const book = new ClientBook();
        const accounts = await createAccounts(database.pool);
        const common = { book, random, accounts };
        const quick = throughTransaction(database.url, () => 0);
        // Holds its locks for a while: a migration has to come in between.
        const slow = throughTransaction(database.url, () => random.between(0, 150));
        const streams = [
          startTraffic({ ...common, clients: 3, send: quick, maxBatch: 2 }),
          startTraffic({ ...common, clients: 2, send: slow, maxBatch: 2 }),
        ];
        await untilMoreAnswers(book);
        const results = await Promise.all([1, 2, 3].map(() => migrate(database.url)));
        expect(results.filter(({ applied }) => applied.length > 0)).toHaveLength(1);
        const ledger = await createLedger({ databaseUrl: database.url });
        const send = throughLibrary(() => ledger);
        streams.push(startTraffic({ ...common, clients: 4, send, maxBatch: 4 }));
        await untilMoreAnswers(book, 60);
        await Promise.all(streams.map((stream) => stream.stop()));
        await ledger.close();
        await expectNothingLost(book, database);
        if (round < ROUNDS - 1) await database.drop();
      }
    },
    180_000 + ROUNDS * 30_000,
  );

  it('again and again, by several at once, of a schema that is up to date: nobody notices', async () => {
    database = await createTestDatabase();
    const random = createRandom('migration again');
    const book = new ClientBook();
    const accounts = await createAccounts(database.pool);
    const ledger = await createLedger({
      databaseUrl: database.url,
      lockTimeoutMs: 200,
      exaFreeAllowanceMicrodollars: EXA_ALLOWANCE_MICRODOLLARS,
    });
    const send = throughLibrary(() => ledger);
    const traffic = startTraffic({
      ...{ book, random, accounts, send },
      clients: 8,
      maxBatch: 4,
      exa: true,
    });
    for (let round = 0; round < ROUNDS * 2; round++) {
      const results = await Promise.all([1, 2, 3].map(() => migrate(database.url)));
      expect(results.flatMap(({ applied }) => applied)).toEqual([]);
      await sleep(random.between(0, 20));
    }
    await untilMoreAnswers(book);
    await traffic.stop();
    await ledger.close();
    await expectNothingLost(book, database);
  });
});
