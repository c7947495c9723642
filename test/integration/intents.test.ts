import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import type { PriceIntent } from '../../src/gateway/durable/index.js';
import {
  deleteIntentsStatement,
  deleteSettledIntentsStatement,
} from '../../src/gateway/durable/intents.sql.js';
import { latePriceId } from '../../src/gateway/prices/index.js';
import { readDeadLetters } from '../../src/journal/deadLetters.js';
import { journalRoot } from '../../src/journal/slots.js';
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

let database: TestDatabase;
let relay: Relay;
let user: string;
const places: ReturnType<typeof makeDataDir>[] = [];
const gateways: TestGateway[] = [];

/** 2 microdollars a token of the prompt. */
const price: PriceIntent = (intent) => ({
  cost: intent.input_tokens_estimate * 2,
  price_source: 'test',
  price_version: '1',
});

async function open(place = newPlace(), options: Parameters<typeof openGateway>[2] = {}) {
  const gateway = await openGateway(relay.url, place.dataDir, { price, ...options });
  gateways.push(gateway);
  return gateway;
}

function newPlace() {
  const place = makeDataDir();
  places.push(place);
  return place;
}

async function usageRow(id: string) {
  const { rows } = await database.pool.query(
    `select u.cost::int, u.input_tokens::int, u.output_tokens::int, u.requested_model,
      u.created_at, m.estimated, m.unpriced, m.price_source, m.streamed, m.max_tokens,
      m.adjusts_usage_id
    from microdollar_usage as u
    left join microdollar_usage_metadata as m on m.id = u.id
    where u.id = $1`,
    [id],
  );
  return rows[0];
}

const correctionsOf = async (id: string) =>
  (
    await database.pool.query(
      `select u.cost::int, u.input_tokens::int, u.output_tokens::int, u.created_at, m.finish_reason_id
      from microdollar_usage as u
      join microdollar_usage_metadata as m on m.id = u.id
      where m.adjusts_usage_id = $1`,
      [id],
    )
  ).rows;
const usageCount = () => count(database.pool, 'microdollar_usage');
const intentCount = () => count(database.pool, 'gateway_intents');

beforeEach(async () => {
  database = await createTestDatabase();
  relay = await openRelay(database.url);
  user = await createUser(database.pool, 1_000_000);
});

afterEach(async () => {
  await relay.restore();
  for (const gateway of gateways.splice(0).reverse()) await gateway.stop();
  expect(await checkInvariants(database.pool)).toEqual([]);
  await relay.close();
  await database.drop();
  for (const place of places.splice(0)) place.remove();
});

describe('the removal of intents', () => {
  it('is not waited for at the disk where their usage is recorded, and only there', async () => {
    const gateway = await open();
    const intents = [newIntent(user), newIntent(user), newIntent(user)];
    for (const intent of intents) await gateway.sink.begin(intent);
    const ids = intents.map(({ id }) => id);
    const client = await database.pool.connect();
    const setting = async () =>
      (await client.query<{ synchronous_commit: string }>('show synchronous_commit')).rows[0]
        ?.synchronous_commit;
    try {
      await client.query('begin');
      await client.query(deleteSettledIntentsStatement(ids.slice(0, 1)));
      expect(await setting()).toBe('off');
      await client.query('commit');
      expect(await setting()).toBe('on');
      await client.query('begin');
      await client.query(deleteIntentsStatement(ids.slice(1, 2)));
      expect(await setting()).toBe('on');
      await client.query('commit');
      expect(await count(database.pool, 'gateway_intents')).toBe(1);
    } finally {
      client.release();
    }
  });
});

describe('an intent without usage', () => {
  it('is settled as a flagged estimate by the next process of its data directory', async () => {
    const place = newPlace();
    const intent = newIntent(user, { created_at: '2024-03-05T23:59:59.123Z' });
    const first = await open(place);
    await first.sink.begin(intent);
    await first.stop();
    const second = await open(place);
    await until(async () => (await intentCount()) === 0);
    expect(await usageRow(intent.id)).toMatchObject({
      cost: 200,
      input_tokens: 100,
      output_tokens: 50,
      requested_model: 'gpt-test',
      estimated: 'intent_without_usage',
      unpriced: null,
      price_source: 'test',
      streamed: true,
      max_tokens: 50,
      created_at: new Date('2024-03-05T23:59:59.123Z'),
    });
    expect(await second.ledger.metrics.registry.metrics()).toContain(
      'microdollar_gateway_estimated_intents_total{priced="true"} 1',
    );
    expect(await second.ledger.getUserBalance(user)).toBe(200);
  });

  it('is unpriced when no price is known: never silently free', async () => {
    const place = newPlace();
    const intent = newIntent(user);
    const first = await open(place);
    await first.sink.begin(intent);
    await first.stop();
    await open(place, { price: () => null });
    await until(async () => (await intentCount()) === 0);
    expect(await usageRow(intent.id)).toMatchObject({
      cost: 0,
      unpriced: true,
      estimated: 'intent_without_usage',
    });
  });

  it('is settled from the journal too, when the database was away', async () => {
    const place = newPlace();
    const first = await open(place);
    await relay.cut();
    const [lost, used] = [newIntent(user), newIntent(user)];
    await first.sink.begin(lost);
    await first.sink.begin(used);
    await first.sink.settle(usageOf(used));
    await first.stop();
    await relay.restore();
    const second = await open(place);
    await until(async () => (await usageCount()) === 2 && (await intentCount()) === 0);
    expect(await usageRow(lost.id)).toMatchObject({ estimated: 'intent_without_usage' });
    expect(await usageRow(used.id)).toMatchObject({ cost: 7, estimated: null });
    expect(await second.ledger.getUserBalance(user)).toBe(207);
  });

  it('is only removed when its usage is recorded', async () => {
    const place = newPlace();
    const first = await open(place);
    const intent = newIntent(user);
    await first.sink.begin(intent);
    await first.ledger.recordUsage(usageOf(intent));
    await first.stop();
    await open(place);
    await until(async () => (await intentCount()) === 0);
    expect(await usageRow(intent.id)).toMatchObject({ cost: 7 });
    expect(await usageCount()).toBe(1);
  });

  it('waits for its usage in the journal, which is drained first', async () => {
    const place = newPlace();
    const first = await open(place);
    const intents = Array.from({ length: 20 }, () => newIntent(user));
    for (const intent of intents) await first.sink.begin(intent);
    await relay.cut();
    for (const intent of intents) await first.sink.settle(usageOf(intent));
    await first.stop();
    await relay.restore();
    const second = await open(place);
    await until(async () => (await intentCount()) === 0);
    expect(await count(database.pool, 'microdollar_usage', 'cost = 7')).toBe(20);
    expect(await second.ledger.getUserBalance(user)).toBe(140);
  });

  it('of a user who is unknown goes to the dead letters', async () => {
    const place = newPlace();
    const first = await open(place);
    const intent = newIntent('nobody');
    await first.sink.begin(intent);
    await first.stop();
    await open(place);
    await until(async () => (await intentCount()) === 0);
    expect(await readDeadLetters(journalRoot(place.dataDir))).toMatchObject([
      { id: intent.id, reason: 'unknown_user' },
    ]);
  });
});

describe('processes that share a database', () => {
  it('leave the intents of a live one alone, however long they take', async () => {
    const first = await open();
    const intent = newIntent(user);
    await first.sink.begin(intent);
    const beat = async () => {
      const { rows } = await database.pool.query<{ beat: string }>(
        `select g.beat::text from gateway_instances as g
         join gateway_intents as i on i.owner = g.owner where i.id = $1`,
        [intent.id],
      );
      return rows[0]?.beat;
    };
    const second = await open(newPlace(), { leaseMs: 1_500, maintenanceIntervalMs: 30 });
    // The clock of leases goes on when the first has beaten: a busy machine is not taken for its death.
    let nowMs = Math.ceil(performance.now());
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
    onTestFinished(() => clock.mockRestore());
    // Three seconds of that clock, twice the lease.
    for (let round = 0; round < 20; round++) {
      const before = await beat();
      expect(before).toBeDefined();
      await until(async () => (await beat()) !== before);
      nowMs += 150;
      await second.maintain();
    }
    expect(await intentCount()).toBe(1);
    expect(await usageCount()).toBe(0);
    expect(await first.sink.settle(usageOf(intent))).toMatchObject({ durable: 'database' });
  });

  it('settle those of one whose heartbeat has stopped', async () => {
    const first = await open();
    const intent = newIntent(user);
    await first.sink.begin(intent);
    await first.stop();
    await open(newPlace(), { leaseMs: 300, maintenanceIntervalMs: 30 });
    await until(async () => (await intentCount()) === 0);
    expect(await usageRow(intent.id)).toMatchObject({ estimated: 'intent_without_usage' });
    await until(async () => (await count(database.pool, 'gateway_instances')) === 1);
  });

  it('and a data directory have a journal each, and adopt what a dead one left', async () => {
    const place = newPlace();
    const [first, second] = [await open(place), await open(place)];
    await relay.cut();
    await first.sink.settle(usageOf(newIntent(user)));
    await second.sink.settle(usageOf(newIntent(user)));
    await second.sink.settle(usageOf(newIntent('nobody')));
    const lost = newIntent(user);
    await second.sink.begin(lost);
    await second.stop();
    await relay.restore();
    await until(async () => (await usageCount()) === 3 && (await intentCount()) === 0);
    expect(await usageRow(lost.id)).toMatchObject({ estimated: 'intent_without_usage' });
    expect(await first.ledger.getUserBalance(user)).toBe(214);
    expect(await readDeadLetters(journalRoot(place.dataDir))).toHaveLength(1);
    await until(() => first.sink.status().deadLetters === 1);
    expect(first.logLines).toContainEqual(
      expect.objectContaining({ message: 'adopted the journal of a dead process' }),
    );
  });
});

describe('usage that comes after its intent was settled as an estimate', () => {
  async function estimated(
    intent = newIntent(user),
    options: Parameters<typeof openGateway>[2] = {},
  ) {
    const place = newPlace();
    const first = await open(place, options);
    await first.sink.begin(intent);
    await first.stop();
    const second = await open(place, options);
    await until(async () => (await intentCount()) === 0);
    return { intent, gateway: second };
  }

  it('wins: a signed row of the same time makes the sums right', async () => {
    const { intent, gateway } = await estimated(
      newIntent(user, { created_at: '2024-03-05T12:00:00.000Z' }),
    );
    const real = usageOf(intent, {
      cost: 50,
      input_tokens: 120,
      output_tokens: 30,
      metadata: { finish_reason: 'stop' },
    });
    expect(await gateway.sink.settle(real)).toMatchObject({
      durable: 'database',
      result: { status: 'recorded', new_microdollars_used: 50 },
    });
    expect(await gateway.sink.settle(real)).toMatchObject({ result: { status: 'duplicate' } });
    expect(await correctionsOf(intent.id)).toEqual([
      {
        cost: -150,
        input_tokens: 20,
        // Of the estimate's 50 tokens it was fewer: counts cannot be negative.
        output_tokens: 0,
        created_at: new Date('2024-03-05T12:00:00.000Z'),
        finish_reason_id: expect.any(Number),
      },
    ]);
    expect(
      await gateway.ledger.getDailyUsage({
        kilo_user_id: user,
        from: '2024-03-05',
        until: '2024-03-05',
      }),
    ).toEqual([{ usage_date: '2024-03-05', total_cost_microdollars: 50 }]);
    expect(await gateway.ledger.metrics.registry.metrics()).toContain(
      'microdollar_gateway_corrected_estimates_total 1',
    );
  });

  it('wins over an estimate that was unpriced at first and priced later', async () => {
    const { intent, gateway } = await estimated(newIntent(user), { price: () => null });
    expect(await usageRow(intent.id)).toMatchObject({ cost: 0, unpriced: true });
    await gateway.ledger.recordUsage({
      id: latePriceId(intent.id),
      kilo_user_id: user,
      cost: 300,
      metadata: { adjusts_usage_id: intent.id },
    });
    expect(await gateway.sink.settle(usageOf(intent, { cost: 50 }))).toMatchObject({
      result: { status: 'recorded', new_microdollars_used: 50 },
    });
  });

  it('wins from the journal as well, once', async () => {
    const { intent, gateway } = await estimated();
    await relay.cut();
    await gateway.sink.settle(usageOf(intent));
    await gateway.sink.settle(usageOf(intent));
    await relay.restore();
    await until(() => gateway.sink.status().depthRecords === 0);
    expect(await correctionsOf(intent.id)).toMatchObject([{ cost: 7 - 200 }]);
    expect(await gateway.ledger.getUserBalance(user)).toBe(7);
    expect(gateway.sink.status().deadLetters).toBe(0);
  });

  it('of a person who was deleted is billed, without what is personal', async () => {
    const { intent, gateway } = await estimated();
    await relay.cut();
    await gateway.sink.settle(usageOf(intent, { metadata: { session_id: 'private' } }));
    await softDeleteUser(database.pool, user);
    await relay.restore();
    await until(() => gateway.sink.status().depthRecords === 0);
    expect(await gateway.ledger.getUserBalance(user)).toBe(7);
    expect(await count(database.pool, 'microdollar_usage_metadata', 'session_id is not null')).toBe(
      0,
    );
  });
});
