import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { currentIdentity } from '../../src/db/embedded/processes.js';
import { type DeadLetter, DeadLetterFile, readDeadLetters } from '../../src/journal/deadLetters.js';
import { type FileSystem, nodeFileSystem } from '../../src/journal/fileSystem.js';
import { inspectJournals } from '../../src/journal/inspect.js';
import { Journal } from '../../src/journal/journal.js';
import { adoptOrphans, claimSlot, type Slot } from '../../src/journal/slots.js';

let root: string;
const slots: Slot[] = [];

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'microdollar-journal-'));
});
afterEach(() => {
  for (const slot of slots.splice(0)) slot.release();
  rmSync(root, { recursive: true, force: true });
});

async function claim(): Promise<Slot> {
  const slot = await claimSlot(root);
  slots.push(slot);
  return slot;
}

describe('slots', () => {
  it('gives every process the first one that is free', async () => {
    const [first, second] = [await claim(), await claim()];
    expect([first.index, second.index]).toEqual([0, 1]);
    first.release();
    expect((await claim()).index).toBe(0);
  });

  it('tells who had it before, until nothing of them is left', async () => {
    const first = await claim();
    const owner = await first.addOwner();
    expect(first.deadOwners()).toEqual([]);
    first.release();
    const second = await claim();
    expect(second.deadOwners()).toEqual([owner]);
    const next = await second.addOwner();
    await second.forgetOwner(owner);
    second.release();
    expect((await claim()).deadOwners()).toEqual([next]);
  });

  it('leaves what another process has taken over alone, also where it ends late', async () => {
    const slot = await claim();
    const owner = await slot.addOwner();
    const lock = path.join(slot.directory, 'lock');
    const file = path.join(slot.directory, 'owner.json');
    // After 30 s in which its lock was not refreshed, seen from another container.
    const other = JSON.stringify({
      ...currentIdentity(),
      startedAt: 'another',
      namespace: 'another',
    });
    const owners = JSON.stringify({ owners: ['theirs'] });
    rmSync(path.join(lock, '1'));
    writeFileSync(path.join(lock, '2'), other);
    writeFileSync(file, owners);
    await slot.forgetOwner(owner);
    await slot.addOwner();
    expect(readFileSync(file, 'utf8')).toBe(owners);
    // Their directory was made anew, and its numbers with it.
    writeFileSync(path.join(lock, '1'), other);
    slot.release();
    expect(readFileSync(path.join(lock, '1'), 'utf8')).toBe(other);
  });

  it('adopts what is left behind, and nothing that is held or empty', async () => {
    const [first, second, third] = [await claim(), await claim(), await claim()];
    await second.addOwner();
    const adopt = async () => {
      const adopted: number[] = [];
      await adoptOrphans(root, async ({ index }) => void adopted.push(index), failed);
      return adopted;
    };
    const failed = (_index: number, error: unknown) => {
      throw error;
    };
    expect(await adopt()).toEqual([]);
    second.release();
    third.release();
    await adoptOrphans(root, async () => expect(await adopt()).toEqual([]), failed);
    expect(await adopt()).toEqual([1]);
    expect(first.isOwner()).toBe(true);
  });

  it('goes on with the next where one cannot be adopted, or looked at, and holds none', async () => {
    const left = [await claim(), await claim(), await claim(), await claim()];
    for (const slot of left) await slot.addOwner();
    for (const slot of left) slot.release();
    const closed: FileSystem = {
      ...nodeFileSystem,
      readFile: (file) =>
        file.startsWith(path.join(root, '2'))
          ? Promise.reject(Object.assign(new Error('planted'), { code: 'EACCES' }))
          : nodeFileSystem.readFile(file),
    };
    const adopted: number[] = [];
    const failed: number[] = [];
    const work = async ({ index }: Slot) => {
      if (index === 0) throw new Error('planted');
      adopted.push(index);
    };
    await adoptOrphans(root, work, (index) => failed.push(index), closed);
    expect({ adopted, failed }).toEqual({ adopted: [1, 3], failed: [0, 2] });
    expect((await inspectJournals(root)).map(({ pid }) => pid)).toEqual([null, null, null, null]);
  });
});

describe('a look from outside', () => {
  it('tells what every journal holds, and who owns it, and changes nothing', async () => {
    const [first, second] = [await claim(), await claim()];
    const journal = await Journal.open({ directory: first.directory, clock: () => 1_000 });
    for (const text of ['a', 'b', 'c']) await journal.append(1, Buffer.from(text));
    await journal.readNext(1);
    await journal.acknowledge(1);
    second.release();
    const look = () => inspectJournals(root);
    expect(await look()).toEqual([
      {
        slot: 0,
        pid: process.pid,
        records: 2,
        bytes: journal.status().bytes,
        oldestAt: '1970-01-01T00:00:01.000Z',
        damagedFiles: [],
        deadLetters: 0,
      },
      expect.objectContaining({ slot: 1, pid: null, records: 0, bytes: 0, oldestAt: null }),
    ]);
    expect(await look()).toEqual(await look());
    expect(await journal.readNext(10)).toHaveLength(2);
    await journal.close();
    expect(await inspectJournals(path.join(root, 'nothing'))).toEqual([]);
  });
});

describe('on a real disk', () => {
  it('goes through append, drain and a second process', async () => {
    const directory = path.join(root, '0');
    const first = await Journal.open({ directory, segmentBytes: 1_000 });
    const texts = Array.from({ length: 200 }, (_, index) => `record ${index}`);
    await Promise.all(texts.map((text) => first.append(1, Buffer.from(text))));
    await first.readNext(50);
    await first.acknowledge(50);
    await first.close();
    expect(statSync(path.join(directory, 'acknowledged')).mode & 0o777).toBe(0o600);
    const second = await Journal.open({ directory });
    const records = await second.readNext(1_000);
    expect(records.map((record) => record.payload.toString())).toEqual(texts.slice(50));
    await second.acknowledge(200);
    expect((await nodeFileSystem.list(directory)).sort()).toEqual(['acknowledged']);
    await second.close();
  });
});

describe('dead letters', () => {
  const letter = (id: string, more: Partial<DeadLetter> = {}): DeadLetter => ({
    id,
    at: '2026-01-02T03:04:05.000Z',
    reason: 'unknown_user',
    message: 'no such user',
    event: { cost: 1 },
    ...more,
  });
  const ids = async (file: DeadLetterFile) => (await file.read()).letters.map(({ id }) => id);

  it('are read back until they are resolved, by whatever process', async () => {
    const file = new DeadLetterFile(root);
    await file.add([letter('a'), letter('b')]);
    await new DeadLetterFile(root).resolve(['a']);
    await file.add([letter('c')]);
    expect(await ids(file)).toEqual(['b', 'c']);
    expect(statSync(path.join(root, 'dead-letters.jsonl')).mode & 0o777).toBe(0o600);
  });

  it('count once an event, the newest', async () => {
    const file = new DeadLetterFile(root);
    await file.add([letter('a'), letter('a', { reason: 'archived_period' })]);
    expect((await file.read()).letters).toMatchObject([{ reason: 'archived_period' }]);
  });

  it('survive a line that a crash cut short, and keep it', async () => {
    const where = path.join(root, 'dead-letters.jsonl');
    writeFileSync(where, '{"kind":"dead_letter","id":"torn');
    const file = new DeadLetterFile(root);
    await file.add([letter('a')]);
    expect(await file.read()).toMatchObject({ letters: [{ id: 'a' }], illegibleLines: 1 });
    await file.resolve(['a']);
    await file.compact((each) => each);
    expect(readFileSync(where, 'utf8')).toBe('{"kind":"dead_letter","id":"torn\n');
  });

  it('leave no file behind once all are resolved', async () => {
    const file = new DeadLetterFile(root);
    await file.add([letter('a')]);
    await file.resolve(['a']);
    await file.compact((each) => each);
    expect(await nodeFileSystem.list(root)).toEqual([]);
  });

  it('of every slot are read together; those of an adopted one move', async () => {
    await nodeFileSystem.makeDirectory(path.join(root, '0'));
    await nodeFileSystem.makeDirectory(path.join(root, '1'));
    const mine = new DeadLetterFile(path.join(root, '0'));
    const other = new DeadLetterFile(path.join(root, '1'));
    await mine.add([letter('late', { at: '2026-01-03T00:00:00.000Z' })]);
    await other.add([letter('early'), letter('gone')]);
    await other.resolve(['gone']);
    const all = async () => (await readDeadLetters(root)).map(({ id }) => id);
    expect(await all()).toEqual(['early', 'late']);
    await mine.absorb(other);
    expect(await all()).toEqual(['early', 'late']);
    expect(await ids(other)).toEqual([]);
  });
});
