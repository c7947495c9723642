import type pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { startEmbeddedPostgres } from '../../src/db/embedded.js';
import type { FollowedResponse, OpenResponse } from '../../src/gateway/durable/types.js';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import {
  count,
  createUser,
  makeDataDir,
  newIntent,
  openGateway,
  type TestGateway,
  until,
  usageOf,
} from '../support/gateway.js';
import { openPool } from '../support/openPool.js';

type Server = Awaited<ReturnType<typeof startEmbeddedPostgres>>;

const settings = { fsync: 'off', full_page_writes: 'off' };
let place: ReturnType<typeof makeDataDir>;
let server: Server;
let pool: pg.Pool;
let gateway: TestGateway;

beforeEach(async () => {
  place = makeDataDir();
  copyMadeCluster(place.dataDir);
  server = await startEmbeddedPostgres({ dataDir: place.dataDir, settings });
  pool = openPool({ connectionString: server.url, max: 2 });
  gateway = await openGateway(server.url, place.dataDir);
});

afterEach(async () => {
  await gateway.stop();
  await pool.end();
  await server.stop();
  place.remove();
});

async function beginResponse(): Promise<FollowedResponse> {
  const intent = newIntent(await createUser(pool), { api_key_id: 'key-1' });
  await gateway.sink.begin(intent);
  return { intent, response_id: 'resp_1', upstream: 'openai', details: { feature: 'research' } };
}

const claim = async () => {
  for (;;) {
    const claimed = await gateway.responses.claimDue().catch(() => []);
    if (claimed.length > 0) return claimed;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

it('takes the place of its intent, and is one process’s alone while it looks', async () => {
  const response = await beginResponse();
  await gateway.responses.follow(response);
  expect(await count(pool, 'gateway_intents')).toBe(0);
  const [claimed] = await claim();
  const { created_at: _, ...intent } = response.intent;
  expect(claimed).toMatchObject({ ...response, intent, looks: 1, isSettled: false });
  expect(await gateway.responses.claimDue()).toEqual([]);
  expect(await gateway.responses.find('resp_1', 'key-2')).toBeNull();
  // Recorded, though nobody came to note it: nothing is left to do.
  await gateway.sink.settle(usageOf(response.intent));
  expect(await gateway.responses.find('resp_1', 'key-1')).toMatchObject({ isSettled: true });
  await gateway.responses.markSettled(response.intent.id);
  expect(await count(pool, 'gateway_responses', 'settled_at is null')).toBe(0);
});

it('keeps who made those that were answered at once, for thirty days', async () => {
  const { intent, ...response } = await beginResponse();
  const made = (id: string, name: string) =>
    gateway.responses.keep({
      ...response,
      response_id: name,
      item_ids: [`msg_${name}`],
      intent: { ...intent, id },
    });
  const ids = Array.from({ length: 3 }, () => uuidv7());
  await Promise.all(ids.map((id, index) => made(id, `resp_${index}`)));
  await made(ids[0] ?? '', 'resp_0');
  expect(await count(pool, 'gateway_responses')).toBe(3);
  expect(await gateway.responses.findUser('resp_1')).toBe(intent.kilo_user_id);
  expect(await gateway.responses.findUser('resp_none')).toBeNull();
  const items = ['msg_resp_0', 'msg_resp_1', 'msg_none'];
  expect(await gateway.responses.findItemUsers(items)).toEqual(
    new Map(items.slice(0, 2).map((id) => [id, intent.kilo_user_id])),
  );
  expect(await gateway.responses.find('resp_1', 'key-1')).toMatchObject({ isSettled: true });
  expect(await gateway.responses.claimDue()).toEqual([]);
  await pool.query(
    `update gateway_responses set settled_at = now() - interval '31 days' where response_id = 'resp_0'`,
  );
  await gateway.responses.forgetOld();
  expect(await gateway.responses.findUser('resp_0')).toBeNull();
  expect([...(await gateway.responses.findItemUsers(items)).keys()]).toEqual(['msg_resp_1']);
  expect(await gateway.responses.findUser('resp_1')).toBe(intent.kilo_user_id);
});

it('survives without the database: in the journal, then in its place', async () => {
  const response = await beginResponse();
  const journaled = newIntent(response.intent.kilo_user_id);
  const { port } = server;
  await server.stop();
  await gateway.sink.begin(journaled);
  await gateway.responses.follow(response);
  await gateway.responses.follow({ ...response, intent: journaled, response_id: 'resp_2' });
  expect(gateway.sink.status().depthRecords).toBe(3);
  server = await startEmbeddedPostgres({ dataDir: place.dataDir, settings, port });
  await until(() => gateway.sink.status().depthRecords === 0);
  expect(await count(pool, 'gateway_responses')).toBe(2);
  await until(async () => (await count(pool, 'gateway_intents')) === 0);
  const claimed: OpenResponse[] = [];
  // Each is due at a time of its own.
  while (claimed.length < 2) claimed.push(...(await claim()));
  expect(claimed.map(({ response_id }) => response_id).sort()).toEqual(['resp_1', 'resp_2']);
  expect(await count(pool, 'microdollar_usage')).toBe(0);
}, 120_000);
