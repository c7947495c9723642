import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { ClientBook, type SentEvent } from './support/clientBook.js';
import { createRandom, IS_LONG } from './support/scale.js';
import { createAccounts, drawEvent } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughLibrary } from './support/ways.js';

const ROUNDS = IS_LONG ? 50 : inForm(2, 3);
const CALLS = 1_500;

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(() => database.drop());

describe('a ledger that is closed under load', () => {
  it(
    'answers every call that it has accepted, and each is recorded',
    async () => {
      const random = createRandom('shutdown');
      const book = new ClientBook();
      const accounts = await createAccounts(database.pool);
      for (let round = 0; round < ROUNDS; round++) {
        const ledger = await createLedger({
          databaseUrl: database.url,
        });
        const send = throughLibrary(() => ledger);
        const unanswered = new Set<SentEvent>();
        for (let call = 0; call < CALLS; call++) {
          const event = drawEvent({ random, accounts, exa: true });
          book.send(event);
          unanswered.add(event);
          void send([event]).then(([outcome]) => {
            unanswered.delete(event);
            if (outcome instanceof Error) book.problems.push(`${event.id}: ${outcome.message}`);
            else if (outcome) book.acknowledge(outcome);
          });
          // The last few hundred are still in the queue.
          if (call % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
        }
        await ledger.close();
        expect(unanswered.size).toBe(0);
      }
      expect(book.acknowledged).toBe(ROUNDS * CALLS);
      await expectNothingLost(book, database);
    },
    180_000 + ROUNDS * 10_000,
  );
});
