import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { createServer } from '../../src/server/index.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { type ChaosProxy, FATES, startChaosProxy } from './support/chaosProxy.js';
import { ClientBook } from './support/clientBook.js';
import { createRandom, IS_LONG } from './support/scale.js';
import { createAccounts, startTraffic } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughHttp, throughLibrary, throughPool, throughTransaction } from './support/ways.js';

/** Times that each fault must be met in each direction. */
const TIMES = IS_LONG ? 25 : 2;
const ADMIN_KEY = 'an-admin-key-of-the-fault-suite';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(() => database.drop());

/** Fails at once when a client was told something wrong. */
async function untilAllMet(proxy: ChaosProxy, book: ClientBook): Promise<void> {
  const kinds = FATES.flatMap((fate) => [`request ${fate}`, `answer ${fate}`] as const);
  while (kinds.some((kind) => (proxy.met.get(kind) ?? 0) < TIMES)) {
    if (book.problems.length > 0) return;
    await sleep(20);
  }
}

describe('a network that delays, drops and cuts, in the middle of messages too', () => {
  it(
    'between the ledger and PostgreSQL',
    async () => {
      const random = createRandom('database network');
      const book = new ClientBook();
      const accounts = await createAccounts(database.pool);
      await using proxy = await startChaosProxy(database.url, {
        random,
        faultShare: 0.03,
        hangMs: 1_000,
      });
      const ledger = await openThrough(proxy);
      const common = { book, random, accounts };
      const viaTransaction = throughTransaction(proxy.url, () => 5);
      const viaPool = throughPool(proxy.url);
      const streams = [
        startTraffic({
          ...common,
          clients: 8,
          send: throughLibrary(() => ledger),
          maxBatch: 8,
          exa: true,
        }),
        startTraffic({ ...common, clients: 2, send: viaTransaction, maxBatch: 2 }),
        startTraffic({ ...common, clients: 3, send: viaPool }),
      ];
      await untilAllMet(proxy, book);
      proxy.calm();
      await Promise.all(streams.map((stream) => stream.stop()));
      await ledger.close();
      await viaPool.end();
      await expectNothingLost(book, database);
    },
    180_000 + TIMES * 15_000,
  );

  it(
    'between clients and the server',
    async () => {
      const random = createRandom('client network');
      const book = new ClientBook();
      const accounts = await createAccounts(database.pool);
      const ledger = await createLedger({ databaseUrl: database.url });
      const server = createServer({ ledger, adminKey: ADMIN_KEY, port: 0, logLevel: 'silent' });
      const serverUrl = await server.listen();
      await using proxy = await startChaosProxy(serverUrl, {
        random,
        faultShare: 0.1,
        hangMs: 500,
      });
      const send = throughHttp(() => [proxy.url], ADMIN_KEY);
      const traffic = startTraffic({ book, random, accounts, clients: 12, send, maxBatch: 30 });
      await untilAllMet(proxy, book);
      proxy.calm();
      await traffic.stop();
      await server.close();
      await ledger.close();
      await expectNothingLost(book, database);
    },
    180_000 + TIMES * 15_000,
  );
});

/** The first connection meets the network's faults, too. */
async function openThrough(proxy: ChaosProxy): Promise<Ledger> {
  for (;;) {
    const ledger = await createLedger({
      databaseUrl: proxy.url,
    }).catch(() => null);
    if (ledger) return ledger;
  }
}
