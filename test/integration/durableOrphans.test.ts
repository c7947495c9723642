import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type DatedUsage, encodeRecord } from '../../src/gateway/durable/records.js';
import { readDeadLetters } from '../../src/journal/deadLetters.js';
import { encodeFrame, SEGMENT_KIND } from '../../src/journal/frame.js';
import { inspectJournals } from '../../src/journal/inspect.js';
import { Journal } from '../../src/journal/journal.js';
import { segmentName } from '../../src/journal/segments.js';
import { claimSlot, journalRoot, type Slot } from '../../src/journal/slots.js';
import { createLedger } from '../../src/ledger.js';
import type { UsageEvent } from '../../src/record/types.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import {
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

const withUsage =
  (...costs: number[]) =>
  async ({ directory }: Slot) => {
    const journal = await Journal.open({ directory });
    for (const cost of costs) {
      const event = usageOf(newIntent(user), { cost }) as DatedUsage;
      const { kind, payload } = encodeRecord({ type: 'usage', owner: randomUUID(), event });
      await journal.append(kind, payload);
    }
    await journal.close();
  };

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

it('damage of one is told, and counted', async () => {
  await leave(async (slot) => {
    await withUsage(7, 5, 3)(slot);
    const file = path.join(slot.directory, segmentName(1));
    const bytes = readFileSync(file);
    const middle = Math.floor(bytes.length / 2);
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
    writeFileSync(file, bytes);
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

it('an event that fails for no reason is buried in the end, and the rest goes on', async () => {
  await leave(withUsage(13, 7));
  const ledger = await createLedger({ databaseUrl: database.url });
  gateway = await openGateway(database.url, place.dataDir, {
    maintenanceIntervalMs: 20,
    ledger: {
      ...ledger,
      recordUsageBatch: async (events: readonly UsageEvent[]) => {
        const good = await ledger.recordUsageBatch(events.filter(({ cost }) => cost !== 13));
        const failed = { status: 'rejected', error: new Error('planted') };
        return events.map(({ cost }) => (cost === 13 ? failed : good.shift())) as never;
      },
    },
  });
  await until(async () => (await readDeadLetters(journalRoot(place.dataDir))).length === 1);
  await until(async () => (await inspectJournals(journalRoot(place.dataDir)))[1]?.records === 0);
  expect(await ledger.getUserBalance(user)).toBe(7);
});
