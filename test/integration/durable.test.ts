import { statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { retryDeadLetters } from '../../src/gateway/durable/index.js';
import { readDeadLetters } from '../../src/journal/deadLetters.js';
import { nodeFileSystem } from '../../src/journal/fileSystem.js';
import { journalRoot } from '../../src/journal/slots.js';
import { createLedger } from '../../src/ledger.js';
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
let place: ReturnType<typeof makeDataDir>;
let gateway: TestGateway;
let user: string;

const code = (expected: string) => expect.objectContaining({ code: expected });
const drained = () => until(() => gateway.sink.status().depthRecords === 0);
const noIntents = () => until(async () => (await count(database.pool, 'gateway_intents')) === 0);
async function restart(options: Parameters<typeof openGateway>[2] = {}): Promise<void> {
  await gateway.stop();
  gateway = await openGateway(relay.url, place.dataDir, options);
}

beforeEach(async () => {
  database = await createTestDatabase();
  relay = await openRelay(database.url);
  place = makeDataDir();
  user = await createUser(database.pool, 1_000);
  gateway = await openGateway(relay.url, place.dataDir);
});

afterEach(async () => {
  await relay.restore();
  await gateway.stop();
  expect(await checkInvariants(database.pool)).toEqual([]);
  await relay.close();
  await database.drop();
  place.remove();
});

describe('with the database', () => {
  it('has the intent in the database before the call, and its usage in its place after', async () => {
    const intent = newIntent(user);
    await gateway.sink.begin(intent);
    expect(await count(database.pool, 'gateway_intents', `id = '${intent.id}'`)).toBe(1);
    const settled = await gateway.sink.settle(usageOf(intent));
    expect(settled).toMatchObject({
      durable: 'database',
      result: { id: intent.id, status: 'recorded' },
    });
    await noIntents();
    expect(await gateway.sink.settle(usageOf(intent))).toMatchObject({
      result: { status: 'duplicate' },
    });
  });

  it('forgets an abandoned intent before it answers', async () => {
    const intent = newIntent(user);
    await gateway.sink.begin(intent);
    await gateway.sink.abandon(intent.id);
    expect(await count(database.pool, 'gateway_intents')).toBe(0);
    await restart();
    await gateway.maintain();
    expect(await count(database.pool, 'microdollar_usage')).toBe(0);
  });

  it('takes hundreds at once in few statements', async () => {
    const intents = Array.from({ length: 400 }, () => newIntent(user));
    await Promise.all(intents.map((intent) => gateway.sink.begin(intent)));
    await Promise.all(intents.map((intent) => gateway.sink.settle(usageOf(intent))));
    await noIntents();
    expect(await gateway.ledger.getUserBalance(user)).toBe(400 * 7);
  });

  it('cleans text that PostgreSQL would refuse: no neighbour of it fails', async () => {
    const bad = newIntent(user, { requested_model: 'a\0b\ud800', input_tokens_estimate: 1.5 });
    await Promise.all([gateway.sink.begin(bad), gateway.sink.begin(newIntent(user))]);
    const { rows } = await database.pool.query(
      'select requested_model, input_tokens_estimate from gateway_intents where id = $1',
      [bad.id],
    );
    expect(rows).toEqual([{ requested_model: 'ab\ufffd', input_tokens_estimate: '2' }]);
  });
});

describe('while the database is away', () => {
  it('keeps intents and usage in the journal, and drains it exactly once', async () => {
    const before = newIntent(user);
    await gateway.sink.begin(before);
    await relay.cut();
    expect(await gateway.sink.settle(usageOf(before))).toEqual({ durable: 'journal' });
    const during = [newIntent(user), newIntent(user)] as const;
    for (const intent of during) await gateway.sink.begin(intent);
    await gateway.sink.settle(usageOf(during[0]));
    await gateway.sink.settle(usageOf(during[0]));
    expect(gateway.sink.status()).toMatchObject({ databaseAvailable: false, depthRecords: 5 });
    await relay.restore();
    await until(() => gateway.sink.status().databaseAvailable);
    expect(await gateway.sink.settle(usageOf(during[1]))).toMatchObject({ durable: 'database' });
    await drained();
    await noIntents();
    expect(await gateway.ledger.getUserBalance(user)).toBe(21);
    expect(await count(database.pool, 'microdollar_usage')).toBe(3);
  });

  it('does not wait for one that is silent', async () => {
    relay.hang();
    const intent = newIntent(user);
    await gateway.sink.begin(intent);
    expect(await gateway.sink.settle(usageOf(intent))).toEqual({ durable: 'journal' });
    await until(async () => {
      const next = newIntent(user);
      await gateway.sink.begin(next);
      await gateway.sink.abandon(next.id);
      return !gateway.sink.status().databaseAvailable;
    });
    await relay.restore();
    await drained();
    await noIntents();
    expect(await gateway.ledger.getUserBalance(user)).toBe(7);
  });

  it('moves the intent of a request that goes on to the database, and leaves it open', async () => {
    await relay.cut();
    const intent = newIntent(user);
    await gateway.sink.begin(intent);
    await relay.restore();
    await drained();
    expect(await count(database.pool, 'gateway_intents')).toBe(1);
    await gateway.maintain();
    expect(await count(database.pool, 'microdollar_usage')).toBe(0);
    await gateway.sink.settle(usageOf(intent));
    await noIntents();
  });

  it('remembers that an intent was abandoned', async () => {
    const [first, second] = [newIntent(user), newIntent(user)];
    await gateway.sink.begin(first);
    await relay.cut();
    await gateway.sink.begin(second);
    await gateway.sink.abandon(first.id);
    await gateway.sink.abandon(second.id);
    await relay.restore();
    await drained();
    await restart();
    await gateway.maintain();
    expect(await count(database.pool, 'gateway_intents')).toBe(0);
    expect(await count(database.pool, 'microdollar_usage')).toBe(0);
  });

  it('remembers it too when the database is back before the journal is drained', async () => {
    const unreadable = () => Promise.reject(new Error('planted: cannot be read'));
    await restart({ fileSystem: { ...nodeFileSystem, open: unreadable } });
    await relay.cut();
    const intent = newIntent(user);
    await gateway.sink.begin(intent);
    await relay.restore();
    await until(() => gateway.sink.status().databaseAvailable);
    await gateway.sink.abandon(intent.id);
    await restart();
    await drained();
    await gateway.maintain();
    expect(await count(database.pool, 'gateway_intents')).toBe(0);
    expect(await count(database.pool, 'microdollar_usage')).toBe(0);
  });

  it('refuses new requests when the journal is full, and settles those it let through', async () => {
    await restart({ maxJournalBytes: 40_000 });
    await relay.cut();
    const begun: ReturnType<typeof newIntent>[] = [];
    let refusal: unknown = null;
    while (refusal === null) {
      const intent = newIntent(user);
      await gateway.sink.begin(intent).then(
        () => begun.push(intent),
        (error) => {
          refusal = error;
        },
      );
    }
    expect(refusal).toEqual(code('unavailable'));
    expect(begun.length).toBeGreaterThan(2);
    expect(gateway.sink.status()).toMatchObject({ full: true, databaseAvailable: false });
    const metrics = await gateway.ledger.metrics.registry.metrics();
    expect(metrics).toContain('microdollar_journal_full 1');
    expect(metrics).toContain('microdollar_gateway_refused_total 1');
    for (const intent of begun) await gateway.sink.settle(usageOf(intent));
    expect(gateway.sink.status().bytes).toBeLessThanOrEqual(40_000);
    await relay.restore();
    await drained();
    expect(gateway.sink.status().full).toBe(false);
    await gateway.sink.begin(newIntent(user));
    expect(await gateway.ledger.getUserBalance(user)).toBe(7 * begun.length);
  });

  it('keeps files to their owner alone', async () => {
    await relay.cut();
    await gateway.sink.begin(newIntent(user));
    const slot = path.join(journalRoot(place.dataDir), '0');
    expect(statSync(slot).mode & 0o777).toBe(0o700);
    expect(statSync(path.join(slot, '0000000000000001.journal')).mode & 0o777).toBe(0o600);
  });
});

describe('events that the database refuses for good', () => {
  it('go to the dead letters, with or without the database, and hold nobody up', async () => {
    const [poison, later] = [newIntent('nobody'), newIntent('nobody')];
    expect(await gateway.sink.settle(usageOf(poison))).toEqual({ durable: 'dead_letter' });
    await relay.cut();
    const good = newIntent(user);
    expect(await gateway.sink.settle(usageOf(later))).toEqual({ durable: 'journal' });
    await gateway.sink.settle(usageOf(good));
    await relay.restore();
    await drained();
    expect(await gateway.ledger.getUserBalance(user)).toBe(7);
    const letters = await readDeadLetters(journalRoot(place.dataDir));
    expect(letters).toMatchObject([
      { id: poison.id, reason: 'unknown_user', event: { kilo_user_id: 'nobody', cost: 7 } },
      { id: later.id, reason: 'unknown_user' },
    ]);
    await until(() => gateway.sink.status().deadLetters === 2);
    expect(await gateway.ledger.metrics.registry.metrics()).toContain(
      'microdollar_dead_lettered_total{reason="unknown_user"} 2',
    );
  });

  it('are recorded when what was wrong has been put right, once', async () => {
    const poison = newIntent('nobody');
    await gateway.sink.settle(usageOf(poison));
    await gateway.sink.settle(usageOf(newIntent('still nobody')));
    const root = journalRoot(place.dataDir);
    await database.pool.query(`insert into kilocode_users (id) values ('nobody')`);
    const retry = () => retryDeadLetters(gateway.ledger, root);
    expect(await retry()).toMatchObject({ resolved: 1, refused: [{ reason: 'unknown_user' }] });
    expect(await retry()).toMatchObject({ resolved: 0, refused: [{ reason: 'unknown_user' }] });
    await until(() => gateway.sink.status().deadLetters === 1);
    expect(await gateway.ledger.getUserBalance('nobody')).toBe(7);
  });

  it('include an id that was recorded with other content', async () => {
    const intent = newIntent(user);
    await gateway.sink.settle(usageOf(intent));
    expect(await gateway.sink.settle(usageOf(intent, { cost: 8 }))).toEqual({
      durable: 'dead_letter',
    });
    await relay.cut();
    await gateway.sink.settle(usageOf(intent, { cost: 9 }));
    await relay.restore();
    await drained();
    const letters = await readDeadLetters<{ cost: number }>(journalRoot(place.dataDir));
    expect(letters).toMatchObject([{ reason: 'idempotency_conflict', event: { cost: 9 } }]);
    expect(await gateway.ledger.getUserBalance(user)).toBe(7);
  });
});

describe('people who are deleted (I11)', () => {
  const personal = { http_ip: '203.0.113.7', session_id: 's', user_prompt_prefix: 'dear diary' };

  it('leave no personal data from the journal, and are billed all the same', async () => {
    await relay.cut();
    const intent = newIntent(user);
    await gateway.sink.settle(usageOf(intent, { metadata: personal }));
    await softDeleteUser(database.pool, user);
    await relay.restore();
    await drained();
    expect(await gateway.ledger.getUserBalance(user)).toBe(7);
    expect(await count(database.pool, 'microdollar_usage_metadata')).toBe(0);
    expect(await count(database.pool, 'http_ip')).toBe(0);
  });

  it('leave none in the dead letters', async () => {
    const intent = newIntent(user);
    await gateway.sink.settle(usageOf(intent));
    await gateway.sink.settle(usageOf(intent, { cost: 8, metadata: personal }));
    const read = () => readDeadLetters<{ metadata?: object }>(journalRoot(place.dataDir));
    expect((await read())[0]?.event.metadata).toEqual(personal);
    await softDeleteUser(database.pool, user);
    await gateway.maintain();
    const [letter] = await read();
    expect(letter).toMatchObject({ reason: 'idempotency_conflict', event: { cost: 8 } });
    expect(letter?.event).not.toHaveProperty('metadata');
  });
});

describe('a disk that fails', () => {
  it('refuses requests while the database is away, and none while it is there', async () => {
    let isBroken = false;
    const broken = () => Object.assign(new Error('EIO: planted'), { code: 'EIO' });
    await restart({
      fileSystem: {
        ...nodeFileSystem,
        create: (file) => (isBroken ? Promise.reject(broken()) : nodeFileSystem.create(file)),
        append: (file, data) =>
          isBroken ? Promise.reject(broken()) : nodeFileSystem.append(file, data),
      },
    });
    isBroken = true;
    const intent = newIntent(user);
    await gateway.sink.begin(intent);
    await relay.cut();
    await expect(gateway.sink.begin(newIntent(user))).rejects.toEqual(code('unavailable'));
    await expect(gateway.sink.settle(usageOf(intent))).rejects.toEqual(code('unavailable'));
    expect(gateway.logLines).toContainEqual(
      expect.objectContaining({
        level: 'error',
        details: expect.objectContaining({ usage_id: intent.id }),
      }),
    );
    expect(await gateway.ledger.metrics.registry.metrics()).toContain(
      'microdollar_gateway_unsaved_usage_total 1',
    );
    isBroken = false;
    await until(() => gateway.sink.status().journalFailure === null);
    await gateway.sink.settle(usageOf(intent));
    await relay.restore();
    await drained();
    expect(await gateway.ledger.getUserBalance(user)).toBe(7);
  });

  it('takes records again when it has room, though a drain waits for the database', async () => {
    let isFull = false;
    const full = () => Promise.reject(Object.assign(new Error('planted'), { code: 'ENOSPC' }));
    const ledger = await createLedger({ databaseUrl: relay.url });
    let isWaiting = false;
    let goOn = () => {};
    const gone = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    await restart({
      segmentBytes: 1,
      fileSystem: {
        ...nodeFileSystem,
        create: (file) => (isFull ? full() : nodeFileSystem.create(file)),
        append: (file, data) => (isFull ? full() : nodeFileSystem.append(file, data)),
      },
      ledger: {
        ...ledger,
        async recordUsageBatch(events) {
          isWaiting = true;
          await gone;
          return ledger.recordUsageBatch(events);
        },
      },
    });
    const [first, second, third] = [newIntent(user), newIntent(user), newIntent(user)];
    for (const intent of [first, second, third]) await gateway.sink.begin(intent);
    await relay.cut();
    await gateway.sink.settle(usageOf(first));
    await relay.restore();
    await until(() => isWaiting);
    await relay.cut();
    isFull = true;
    await expect(gateway.sink.settle(usageOf(second))).rejects.toEqual(code('unavailable'));
    isFull = false;
    await until(() => gateway.sink.status().journalFailure === null);
    for (const intent of [second, third]) {
      expect(await gateway.sink.settle(usageOf(intent))).toEqual({ durable: 'journal' });
    }
    goOn();
    await relay.restore();
    await drained();
    await noIntents();
    expect(await gateway.ledger.getUserBalance(user)).toBe(21);
    await ledger.close();
  });
});
