import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { ClientBook } from './support/clientBook.js';
import { type Cluster, startCluster } from './support/cluster.js';
import { createRandom, KILLS } from './support/scale.js';
import { createAccounts, startTraffic, untilMoreAnswers } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughLibrary, throughPool, throughTransaction } from './support/ways.js';

/** Half of the suite's kills; the service gets the other half. */
const POSTGRES_KILLS = Math.floor(KILLS / 2);

let cluster: Cluster;

beforeEach(async () => {
  cluster = await startCluster();
});

afterEach(() => cluster.stop());

describe('SIGKILL of PostgreSQL under load', () => {
  it(
    'loses nothing that was acknowledged and counts nothing twice; the ledger recovers by itself',
    async () => {
      const random = createRandom('postgres kill');
      const book = new ClientBook();
      const ledger = await createLedger({
        databaseUrl: cluster.url,
      });
      const accounts = await createAccounts(cluster.pool);
      const common = { book, random, accounts };
      const viaLibrary = throughLibrary(() => ledger);
      const viaTransaction = throughTransaction(cluster.url, () => random.between(0, 30));
      const viaPool = throughPool(cluster.url);
      const streams = [
        startTraffic({ ...common, clients: 3, send: viaPool }),
        startTraffic({ ...common, clients: 12, send: viaLibrary, maxBatch: 6, exa: true }),
        startTraffic({ ...common, clients: 2, send: viaTransaction, maxBatch: 3 }),
      ];
      for (let kill = 1; kill <= POSTGRES_KILLS; kill++) {
        await untilMoreAnswers(book);
        await sleep(random.between(0, 150));
        // Every fourth kill is of one backend: the postmaster ends all others and recovers.
        if (kill % 4 === 0) await cluster.killBackend(random.pick);
        else {
          await cluster.kill();
          await cluster.restart();
        }
        if (kill % 10 === 0) {
          await untilMoreAnswers(book);
          expect(await checkInvariants(cluster.pool)).toEqual([]);
        }
      }
      await untilMoreAnswers(book);
      await Promise.all(streams.map((stream) => stream.stop()));
      await ledger.close();
      await viaPool.end();
      await expectNothingLost(book, cluster);
      console.info(
        `${POSTGRES_KILLS} kills of PostgreSQL: ${book.acknowledged} acknowledged, ` +
          `${book.sent - book.acknowledged} given up`,
      );
    },
    180_000 + POSTGRES_KILLS * 10_000,
  );
});
