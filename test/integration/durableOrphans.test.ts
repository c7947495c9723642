import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import {
  type DatedUsage,
  type DurableRecord,
  encodeRecord,
} from '../../src/gateway/durable/records.js';
import type { Intent } from '../../src/gateway/durable/types.js';
import { readDeadLetters } from '../../src/journal/deadLetters.js';
import { type FileSystem, nodeFileSystem } from '../../src/journal/fileSystem.js';
import { encodeFrame, SEGMENT_KIND } from '../../src/journal/frame.js';
import { inspectJournals } from '../../src/journal/inspect.js';
import { Journal } from '../../src/journal/journal.js';
import { segmentName } from '../../src/journal/segments.js';
import { claimSlot, journalRoot, type Slot } from '../../src/journal/slots.js';
import { createLedger } from '../../src/ledger.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { UsageEvent } from '../../src/record/types.js';
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

/** Journals that dead processes left, adopted by one that runs. */
let database: TestDatabase;
let place: ReturnType<typeof makeDataDir>;
let gateway: TestGateway | null = null;
let user: string;

beforeEach(async () => {
  database = await createTestDatabase();
  place = makeDataDir();
  user = await createUser(database.pool, 1_000);
});

afterEach(async () => {
  await gateway?.stop();
  gateway = null;
  await database.drop();
  place.remove();
});

/** Slots from 1 on, as processes leave them; 0 is for the one that adopts them. */
async function leave(...contents: ((slot: Slot) => Promise<void>)[]): Promise<void> {
  const slots: Slot[] = [];
  for (let index = 0; index <= contents.length; index++) {
    slots.push(await claimSlot(journalRoot(place.dataDir)));
  }
  for (const [index, write] of contents.entries()) await write(slots[index + 1] as Slot);
  for (const slot of slots) slot.release();
}

async function append({ directory }: Slot, ...records: DurableRecord[]): Promise<void> {
  const journal = await Journal.open({ directory });
  const encoded = records.map(encodeRecord);
  await Promise.all(encoded.map(({ kind, payload }) => journal.append(kind, payload)));
  await journal.close();
}

const usage = (cost: number): DurableRecord => {
  const event = usageOf(newIntent(user), { cost }) as DatedUsage;
  return { type: 'usage', owner: randomUUID(), event };
};

const withUsage =
  (...costs: number[]) =>
  (slot: Slot) =>
    append(slot, ...costs.map(usage));

async function ofAnotherVersion({ directory }: Slot): Promise<void> {
  const header = { sequence: 1, writtenAtMs: 0, kind: SEGMENT_KIND };
  const frame = encodeFrame({ ...header, payload: Buffer.from('microdollar journal 9') });
  writeFileSync(path.join(directory, segmentName(1)), frame);
}

it('one that cannot be adopted keeps no other waiting, nor is it held', async () => {
  await leave(ofAnotherVersion, withUsage(7), withUsage(5));
  gateway = await openGateway(database.url, place.dataDir);
  const { ledger } = gateway;
  await until(async () => (await ledger.getUserBalance(user)) === 12);
  await gateway.stop();
  const pids = (await inspectJournals(journalRoot(place.dataDir))).map(({ pid }) => pid);
  expect(pids).toEqual([null, null, null, null]);
});

function damage({ directory }: Slot, firstSequence: number): void {
  const file = path.join(directory, segmentName(firstSequence));
  const bytes = readFileSync(file);
  const middle = Math.floor(bytes.length / 2);
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
  writeFileSync(file, bytes);
}

it('damage of one is told, and counted', async () => {
  await leave(async (slot) => {
    await withUsage(7, 5, 3)(slot);
    damage(slot, 1);
  });
  gateway = await openGateway(database.url, place.dataDir);
  const { ledger } = gateway;
  await until(async () => (await ledger.getUserBalance(user)) === 10);
  expect(await ledger.metrics.registry.metrics()).toContain(
    'microdollar_journal_lost_records_total 1',
  );
  expect(gateway.logLines).toContainEqual(
    expect.objectContaining({ level: 'error', details: expect.objectContaining({ slot: 1 }) }),
  );
});

it('damage is told also where another process had the journal since it was tried', async () => {
  await leave(withUsage(13));
  const ledger = await createLedger({ databaseUrl: database.url });
  let isRefused = true;
  const refusal = { status: 'rejected', error: new LedgerError('internal', 'planted') };
  gateway = await openGateway(database.url, place.dataDir, {
    maintenanceIntervalMs: 3_600_000,
    ledger: {
      ...ledger,
      recordUsageBatch: async (events: readonly UsageEvent[]) =>
        isRefused ? events.map(() => refusal as never) : await ledger.recordUsageBatch(events),
    },
  });
  await gateway.maintain();
  const other = await claimSlot(journalRoot(place.dataDir));
  expect(other.index).toBe(1);
  await withUsage(7, 5, 3)(other);
  damage(other, 2);
  await gateway.maintain();
  other.release();
  isRefused = false;
  await gateway.maintain();
  expect(await ledger.getUserBalance(user)).toBe(23);
  expect(await ledger.metrics.registry.metrics()).toContain(
    'microdollar_journal_lost_records_total 1',
  );
});

it('an event that fails for no reason is buried in the end, and the rest goes on', async () => {
  await leave(withUsage(13, 7));
  const ledger = await createLedger({ databaseUrl: database.url });
  gateway = await openGateway(database.url, place.dataDir, {
    maintenanceIntervalMs: 20,
    ledger: {
      ...ledger,
      recordUsageBatch: async (events: readonly UsageEvent[]) => {
        const good = await ledger.recordUsageBatch(events.filter(({ cost }) => cost !== 13));
        const failed = { status: 'rejected', error: new LedgerError('internal', 'planted') };
        return events.map(({ cost }) => (cost === 13 ? failed : good.shift())) as never;
      },
    },
  });
  await until(async () => (await readDeadLetters(journalRoot(place.dataDir))).length === 1);
  await until(async () => (await inspectJournals(journalRoot(place.dataDir)))[1]?.records === 0);
  expect(await ledger.getUserBalance(user)).toBe(7);
});

it('one whose files cannot be read says nothing about the database', async () => {
  await leave(withUsage(7), withUsage(5));
  const closed = path.join(journalRoot(place.dataDir), '1', segmentName(1));
  const fileSystem: FileSystem = {
    ...nodeFileSystem,
    readFile: (file) =>
      file === closed
        ? Promise.reject(Object.assign(new Error('planted'), { code: 'EACCES', path: file }))
        : nodeFileSystem.readFile(file),
  };
  gateway = await openGateway(database.url, place.dataDir, { fileSystem });
  const { ledger, logLines } = gateway;
  await until(async () => (await ledger.getUserBalance(user)) === 5);
  await gateway.maintain();
  expect(logLines.filter(({ level }) => level === 'error')).toEqual([]);
});

it('a response that the database refuses for good is an estimate, and holds up nothing', async () => {
  await leave(async (slot) => {
    const owner = await slot.addOwner();
    const intent = newIntent(user);
    const response = { intent, response_id: 'resp_\0', upstream: 'openai', details: {} };
    await append(slot, { type: 'follow', owner, response }, usage(7));
  });
  gateway = await openGateway(database.url, place.dataDir);
  await until(async () => (await count(database.pool, 'microdollar_usage')) === 2);
  const { ledger } = gateway;
  await until(async () => (await ledger.getUserBalance(user)) === 7);
  const estimates = 'id in (select id from microdollar_usage where cost = 0)';
  expect(await count(database.pool, 'microdollar_usage_metadata', estimates)).toBe(1);
  await until(async () => (await count(database.pool, 'gateway_intents')) === 0);
});

/** More than a page of them, of a dead process. */
async function leaveIntents(): Promise<readonly [Intent, ...Intent[]]> {
  const intents = [newIntent(user), ...Array.from({ length: 200 }, () => newIntent(user))] as const;
  await leave(async (slot) => {
    const owner = await slot.addOwner();
    await append(slot, ...intents.map((intent) => ({ type: 'intent' as const, owner, intent })));
  });
  return intents;
}

it('an intent that cannot be settled keeps no later one waiting, and is told once', async () => {
  const [unsettled] = await leaveIntents();
  const ledger = await createLedger({ databaseUrl: database.url });
  gateway = await openGateway(database.url, place.dataDir, {
    ledger: {
      ...ledger,
      recordUsageBatch: async (events: readonly UsageEvent[]) => {
        const good = await ledger.recordUsageBatch(events.filter(({ id }) => id !== unsettled.id));
        const failed = { status: 'rejected', error: new LedgerError('internal', 'planted') };
        return events.map(({ id }) => (id === unsettled.id ? failed : good.shift())) as never;
      },
    },
  });
  await until(async () => (await count(database.pool, 'microdollar_usage')) === 200);
  await until(async () => (await count(database.pool, 'gateway_intents')) === 1);
  for (let round = 0; round < 3; round++) await gateway.maintain();
  const told = gateway.logLines.map(({ message }) => message);
  expect(told.filter((line) => /tried again/.test(line))).toHaveLength(1);
  expect(told.filter((line) => /adopted/.test(line))).toHaveLength(1);
});

it('an intent whose id another transaction holds keeps no other waiting, and is settled then', async () => {
  const [held] = await leaveIntents();
  const ledger = await createLedger({ databaseUrl: database.url, lockTimeoutMs: 100 });
  const holder = await database.pool.connect();
  try {
    await holder.query('begin');
    await insertUsageAndMetadataWithBalanceUpdate(holder, usageOf(held));
    gateway = await openGateway(database.url, place.dataDir, { ledger });
    await until(async () => (await count(database.pool, 'microdollar_usage')) === 200);
    await until(async () => (await count(database.pool, 'gateway_intents')) === 1);
  } finally {
    await holder.query('rollback');
    holder.release();
  }
  await until(async () => (await count(database.pool, 'gateway_intents')) === 0);
  expect(await count(database.pool, 'microdollar_usage')).toBe(201);
});

it('usage whose id another transaction holds keeps nothing of its journal waiting', async () => {
  const [held, open] = [newIntent(user), newIntent(user)];
  await leave(async (slot) => {
    const owner = await slot.addOwner();
    const event = usageOf(held, { cost: 7 }) as DatedUsage;
    await append(slot, { type: 'usage', owner, event }, { type: 'intent', owner, intent: open });
  });
  const ledger = await createLedger({ databaseUrl: database.url, lockTimeoutMs: 100 });
  const holder = await database.pool.connect();
  try {
    await holder.query('begin');
    await insertUsageAndMetadataWithBalanceUpdate(holder, usageOf(held, { cost: 7 }));
    gateway = await openGateway(database.url, place.dataDir, { ledger });
    await until(async () => (await count(database.pool, 'microdollar_usage')) === 1);
  } finally {
    await holder.query('rollback');
    holder.release();
  }
  await until(async () => (await count(database.pool, 'microdollar_usage')) === 2);
  // The journal is done with a batch after the database is.
  await until(async () => (await inspectJournals(journalRoot(place.dataDir)))[1]?.records === 0);
  expect(await ledger.getUserBalance(user)).toBe(7);
});

it('one whose shard is away is not called adopted before it is', async () => {
  await leave(withUsage(7));
  const ledger = await createLedger({ databaseUrl: database.url });
  let isAway = true;
  const away = new LedgerError('unavailable', 'planted', { details: { shard: 'a' } });
  gateway = await openGateway(database.url, place.dataDir, {
    ledger: {
      ...ledger,
      recordUsageBatch: async (events: readonly UsageEvent[]) => {
        if (!isAway) return await ledger.recordUsageBatch(events);
        return events.map(() => ({ status: 'rejected', error: away })) as never;
      },
    },
  });
  const { logLines, maintain } = gateway;
  const told = () => logLines.filter(({ message }) => /adopted/.test(String(message)));
  for (let round = 0; round < 3; round++) await maintain();
  expect(told()).toEqual([]);
  isAway = false;
  await until(async () => (await ledger.getUserBalance(user)) === 7);
  await until(() => told().length === 1);
});
