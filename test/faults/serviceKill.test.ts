import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { ClientBook } from './support/clientBook.js';
import { createRandom, KILLS } from './support/scale.js';
import { type Service, startService } from './support/service.js';
import { createAccounts, startTraffic, untilMoreAnswers } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughHttp } from './support/ways.js';

/** Half of the suite's kills; PostgreSQL gets the other half. */
const SERVICE_KILLS = Math.ceil(KILLS / 2);
const SERVICES = 2;

let database: TestDatabase;
let directory: string;

beforeEach(async () => {
  database = await createTestDatabase();
  directory = mkdtempSync(path.join(tmpdir(), 'microdollar-faults-'));
});

afterEach(async () => {
  await database.drop();
  rmSync(directory, { recursive: true, force: true });
});

const start = (index: number, port: number) =>
  startService({
    databaseUrl: database.url,
    dataDir: path.join(directory, String(index)),
    port,
  });

describe('SIGKILL of the service under load', () => {
  it(
    'loses nothing that was acknowledged, counts nothing twice, and ends in order on SIGTERM',
    async () => {
      const random = createRandom('service kill');
      const { key } = await createApiKey(database.pool, { scopes: ['usage:write'] });
      const book = new ClientBook();
      const services: (Service | null)[] = await Promise.all(
        Array.from({ length: SERVICES }, (_, index) => start(index, 0)),
      );
      const urls = services.map((service) => service?.url as string);
      const send = throughHttp(() => urls, key);
      const accounts = await createAccounts(database.pool);
      const traffic = startTraffic({ book, random, accounts, clients: 16, send, maxBatch: 4 });

      let killsLeft = SERVICE_KILLS;
      const keepKilling = async (index: number) => {
        while (killsLeft-- > 0) {
          await untilMoreAnswers(book);
          await sleep(random.between(0, 300));
          expect(await services[index]?.end('SIGKILL')).toBe('SIGKILL');
          services[index] = await start(index, Number(new URL(urls[index] as string).port));
        }
      };
      await Promise.all(services.map((_, index) => keepKilling(index)));

      await untilMoreAnswers(book);
      for (const service of services) expect(await service?.end('SIGTERM')).toBe(0);
      const last = await start(0, Number(new URL(urls[0] as string).port));
      await traffic.stop();
      expect(await last.end('SIGTERM')).toBe(0);
      await expectNothingLost(book, database);
      console.info(`${SERVICE_KILLS} kills of the service: ${book.acknowledged} acknowledged`);
    },
    180_000 + SERVICE_KILLS * 10_000,
  );
});
