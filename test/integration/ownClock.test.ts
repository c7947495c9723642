import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
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
import { openRelay, type Relay } from '../support/relay.js';

/** What the gateway measured is recorded, whatever the clocks say. */
const minutesFromNow = (minutes: number) => new Date(Date.now() + minutes * 60_000).toISOString();

let database: TestDatabase;
let relay: Relay;
let place: ReturnType<typeof makeDataDir>;
let gateway: TestGateway;
let user: string;

beforeEach(async () => {
  database = await createTestDatabase();
  relay = await openRelay(database.url);
  place = makeDataDir();
  user = await createUser(database.pool, 1_000);
  gateway = await openGateway(relay.url, place.dataDir);
});

afterEach(async () => {
  vi.useRealTimers();
  await relay.restore();
  await gateway.stop();
  expect(await checkInvariants(database.pool)).toEqual([]);
  await relay.close();
  await database.drop();
  place.remove();
});

async function rowOf(id: string) {
  const { rows } = await database.pool.query(
    `select u.cost::int, u.created_at <= now() as is_past,
       m.usage_details ->> 'stated_created_at' as stated, m.estimated
     from microdollar_usage as u
     join microdollar_usage_metadata as m on m.id = u.id
     where u.id = $1`,
    [id],
  );
  return rows[0];
}

describe('usage that lies ahead of the clock', () => {
  it('is recorded as of now, with the time that it stated, once', async () => {
    const intent = newIntent(user);
    const usage = usageOf(intent, { created_at: minutesFromNow(10) });
    await gateway.sink.begin(intent);
    expect(await gateway.sink.settle(usage)).toMatchObject({
      durable: 'database',
      result: { status: 'recorded' },
    });
    expect(await gateway.sink.settle(usage)).toMatchObject({ result: { status: 'duplicate' } });
    expect(await rowOf(intent.id)).toMatchObject({
      cost: 7,
      is_past: true,
      stated: usage.created_at,
    });
    expect(gateway.sink.status().deadLetters).toBe(0);
  });

  it('is a duplicate still when its time has come', async () => {
    const intent = newIntent(user);
    const usage = usageOf(intent, { created_at: minutesFromNow(10) });
    await gateway.sink.settle(usage);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    expect(await gateway.sink.settle(usage)).toMatchObject({
      result: { status: 'duplicate', new_microdollars_used: 7 },
    });
    expect(gateway.sink.status().deadLetters).toBe(0);
  });

  it('is drained from the journal', async () => {
    await relay.cut();
    const usage = usageOf(newIntent(user), { created_at: minutesFromNow(60) });
    expect(await gateway.sink.settle(usage)).toMatchObject({ durable: 'journal' });
    await relay.restore();
    await until(() => gateway.sink.status().depthRecords === 0);
    expect(await rowOf(usage.id ?? '')).toMatchObject({ cost: 7, is_past: true });
    expect(gateway.sink.status().deadLetters).toBe(0);
  });

  it('wins over its estimate, which lay ahead as well', async () => {
    await gateway.stop();
    const price = () => ({ cost: 200, price_source: 'test', price_version: '1' });
    gateway = await openGateway(relay.url, place.dataDir, { price });
    const intent = newIntent(user, { created_at: minutesFromNow(30) });
    await gateway.sink.begin(intent);
    await gateway.stop();
    gateway = await openGateway(relay.url, place.dataDir, { price });
    await until(async () => (await count(database.pool, 'gateway_intents')) === 0);
    expect(await rowOf(intent.id)).toMatchObject({
      cost: 200,
      is_past: true,
      estimated: 'intent_without_usage',
      stated: intent.created_at.replace('Z', '000Z'),
    });
    const usage = usageOf(intent, { created_at: intent.created_at });
    expect(await gateway.sink.settle(usage)).toMatchObject({
      result: { status: 'recorded' },
    });
    expect(await gateway.sink.settle(usage)).toMatchObject({ result: { status: 'duplicate' } });
    expect(gateway.sink.status().deadLetters).toBe(0);
  });
});
