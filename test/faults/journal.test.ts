import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import { retryDeadLetters } from '../../src/gateway/durable/retryDeadLetters.js';
import { Journal } from '../../src/journal/journal.js';
import { journalRoot } from '../../src/journal/slots.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import {
  count,
  createUser,
  makeDataDir,
  newIntent,
  openGateway,
  until,
  usageOf,
} from '../support/gateway.js';
import { MemoryDisk } from '../support/journalDisk.js';
import { openRelay } from '../support/relay.js';
import { ClientBook } from './support/clientBook.js';
import { createFullDisk } from './support/fullDisk.js';
import { createRandom, IS_LONG, SEED } from './support/scale.js';
import { expectNothingLost } from './support/verdict.js';

const OUTAGES = IS_LONG ? 25 : inForm(2, 3);
const POWER_CUTS = IS_LONG ? 2_000 : inForm(30, 60);
const DAY_MS = 86_400_000;

describe('a disk that is full while the database is away', () => {
  let database: TestDatabase;
  let place: ReturnType<typeof makeDataDir>;

  beforeEach(async () => {
    database = await createTestDatabase();
    place = makeDataDir();
  });

  afterEach(async () => {
    await database.drop();
    place.remove();
  });

  it(
    'refuses what it cannot keep; all that was acknowledged is in the ledger once it is back',
    async () => {
      const random = createRandom('full disk');
      const book = new ClientBook();
      const user = await createUser(database.pool);
      const relay = await openRelay(database.url);
      const disk = createFullDisk();
      const gateway = await openGateway(relay.url, place.dataDir, {
        fileSystem: disk,
        databaseTimeoutMs: 300,
        segmentBytes: 16 * 1024,
      });
      const tally = { refused: 0, unsaved: 0, deadLetter: 0, journal: 0, database: 0 };
      let isOver = false;
      const client = async () => {
        while (!isOver) {
          const intent = newIntent(user);
          const isBegun = await gateway.sink.begin(intent).then(() => true, isRefused);
          if (!isBegun) {
            tally.refused++;
            await sleep(5);
            continue;
          }
          const usage = usageOf(intent, { cost: random.between(-50, 500) });
          const { id, kilo_user_id, cost = 0, created_at = '' } = usage;
          const createdAt = String(created_at);
          book.send({
            ...{ kind: 'usage', kilo_user_id, organization_id: null, cost },
            ...{ id: id as string, created_at: createdAt },
          });
          for (let isSettled = false; !isSettled; ) {
            const settled = await gateway.sink.settle(usage).catch(isRefused);
            isSettled = settled !== false;
            if (settled === false) {
              tally.unsaved++;
              await sleep(10);
            } else tally[settled.durable === 'dead_letter' ? 'deadLetter' : settled.durable]++;
          }
          book.acknowledge({ id: id as string, status: 'recorded', created_at: createdAt });
        }
      };
      const clients = Promise.all(Array.from({ length: 12 }, client));
      for (let outage = 0; outage < OUTAGES; outage++) {
        // Each outcome is to be met, also where the machine is busy.
        await until(() => tally.database > 0);
        await sleep(random.between(20, 100));
        const refusalsBefore = disk.refusals;
        const deniedBefore = tally.refused + tally.unsaved;
        disk.room = random.between(0, 20_000);
        await relay.cut();
        await until(() => disk.refusals > refusalsBefore);
        await until(() => tally.refused + tally.unsaved > deniedBefore);
        await sleep(random.between(0, 100));
        // Every other time the disk has room again before the database is back, and is used.
        if (outage % 2 === 0) {
          const keptBefore = tally.journal;
          disk.room = Number.POSITIVE_INFINITY;
          await until(() => tally.journal > keptBefore);
        }
        await sleep(random.between(0, 100));
        await relay.restore();
        await until(() => gateway.sink.status().databaseAvailable);
        disk.room = Number.POSITIVE_INFINITY;
      }
      isOver = true;
      await clients;
      await until(
        async () =>
          gateway.sink.status().depthRecords === 0 &&
          (await count(database.pool, 'gateway_intents')) === 0,
      );
      await gateway.stop();
      await relay.close();
      const healthy = await openGateway(database.url, place.dataDir);
      await retryDeadLetters(healthy.ledger, journalRoot(place.dataDir));
      await healthy.stop();
      // Each outcome was met, so each was put to the test.
      expect(tally.refused + tally.unsaved).toBeGreaterThan(0);
      expect(tally.journal).toBeGreaterThan(0);
      expect(tally.database).toBeGreaterThan(0);
      await expectNothingLost(book, database);
    },
    180_000 + OUTAGES * 10_000,
  );
});

function isRefused(error: unknown): false {
  if (error instanceof LedgerError && error.retryable) return false;
  throw error;
}

describe('power cuts, full disks and steps of the clock', () => {
  it(
    'every record that was acknowledged is read again, in order, at an age that is no nonsense',
    async () => {
      const random = createRandom('power cut');
      let disk = new MemoryDisk();
      let nowMs = Date.UTC(2026, 10, 22);
      const durable = new Set<string>();
      const drained = new Set<string>();
      let made = 0;
      for (let cut = 0; cut < POWER_CUTS; cut++) {
        const fileSystem = disk;
        const clock = () => nowMs;
        const journal = await Journal.open({
          ...{ directory: '/journal', segmentBytes: 400 },
          ...{ fileSystem, clock },
        });
        expect(journal.openReport).toMatchObject({ corruptions: 0, missingRecords: 0 });
        // Of the process that is killed, nothing is awaited any more.
        const append = async () => {
          const text = `record ${made++}`;
          await journal.append(1, Buffer.from(text));
          if (disk === fileSystem) durable.add(text);
        };
        for (let turn = random.between(1, 8); turn > 0; turn--) {
          // By NTP, an administrator, a resumed machine: in either direction.
          nowMs += random.pick([-400 * DAY_MS, -3_600_000, -1, 0, 1, 3_600_000, 400 * DAY_MS]);
          const isFull = random.next() < 0.2;
          disk.fault = (operation) => (isFull && operation === 'write' ? 'ENOSPC' : null);
          await Promise.allSettled(Array.from({ length: random.between(1, 5) }, append));
          disk.fault = () => null;
          await journal.recover();
          const { oldestAgeMs } = journal.status();
          expect(oldestAgeMs).toBeGreaterThanOrEqual(0);
          if (random.next() < 0.5) await drain(journal, random.between(1, 6), drained);
        }
        const inFlight = [append(), append()];
        for (let turn = random.between(0, 8); turn > 0; turn--) await sleep(0);
        disk = fileSystem.afterPowerCut(random.next);
        await Promise.allSettled(inFlight);
      }
      const journal = await Journal.open({ directory: '/journal', fileSystem: disk });
      while ((await drain(journal, 100, drained)) > 0);
      const lost = [...durable].filter((text) => !drained.has(text));
      expect(lost, `FAULT_SEED=${SEED}`).toEqual([]);
      expect(durable.size).toBeGreaterThan(POWER_CUTS);
    },
    180_000 + POWER_CUTS * 60,
  );
});

/** As the ledger does it: recorded first, acknowledged then; what is read twice is recorded once. */
async function drain(journal: Journal, limit: number, drained: Set<string>): Promise<number> {
  const records = await journal.readNext(limit);
  const sequences = records.map(({ sequence }) => sequence);
  expect(sequences).toEqual([...sequences].sort((a, b) => a - b));
  for (const { payload } of records) drained.add(payload.toString());
  const last = records.at(-1);
  if (last) await journal.acknowledge(last.sequence);
  return records.length;
}
