import { afterEach, beforeEach, expect, it } from 'vitest';
import { startEmbeddedPostgres } from '../../src/db/embedded.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import {
  count,
  createUser,
  makeDataDir,
  newIntent,
  openGateway,
  until,
  usageOf,
} from '../support/gateway.js';
import { openPool } from '../support/openPool.js';

type Server = Awaited<ReturnType<typeof startEmbeddedPostgres>>;

const settings = { fsync: 'off', full_page_writes: 'off' };
let place: ReturnType<typeof makeDataDir>;
let server: Server;

beforeEach(async () => {
  place = makeDataDir();
  copyMadeCluster(place.dataDir);
  server = await startEmbeddedPostgres({ dataDir: place.dataDir, settings });
});

afterEach(async () => {
  await server.stop();
  place.remove();
});

it('serves on through a stop of the server, and has every request in the ledger once', async () => {
  const pool = openPool({ connectionString: server.url, max: 2 });
  const user = await createUser(pool);
  const gateway = await openGateway(server.url, place.dataDir);
  const durable = { database: 0, journal: 0, dead_letter: 0 };
  const settled: string[] = [];
  let isOver = false;
  const client = async () => {
    while (!isOver) {
      const intent = newIntent(user);
      await gateway.sink.begin(intent);
      const result = await gateway.sink.settle(usageOf(intent));
      durable[result.durable]++;
      settled.push(intent.id);
    }
  };
  const clients = Promise.all(Array.from({ length: 8 }, client));
  await until(() => durable.database > 100);
  await server.stop();
  await until(() => durable.journal > 500);
  expect(gateway.sink.status().databaseAvailable).toBe(false);
  const before = durable.database;
  server = await startEmbeddedPostgres({ dataDir: place.dataDir, settings, port: server.port });
  await until(() => durable.database > before + 100);
  isOver = true;
  await clients;
  await until(
    async () =>
      gateway.sink.status().depthRecords === 0 && (await count(pool, 'gateway_intents')) === 0,
  );
  await gateway.ledger.fold();
  expect(await checkInvariants(pool)).toEqual([]);
  expect(await checkFolded(pool)).toEqual([]);
  expect(await count(pool, 'microdollar_usage')).toBe(settled.length);
  const { rows } = await pool.query('select id from microdollar_usage where id = any($1)', [
    settled,
  ]);
  expect(rows).toHaveLength(settled.length);
  expect(await gateway.ledger.getUserBalance(user)).toBe(settled.length * 7);
  expect(durable.dead_letter).toBe(0);
  await gateway.stop();
  await pool.end();
});
