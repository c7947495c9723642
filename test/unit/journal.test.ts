import { describe, expect, it } from 'vitest';
import { Journal } from '../../src/journal/journal.js';
import type { JournalOptions } from '../../src/journal/types.js';
import { MemoryDisk } from '../support/journalDisk.js';

const DIRECTORY = '/journal';
const KIND = 1;
const unavailable = expect.objectContaining({ code: 'unavailable', retryable: true });

const open = (disk: MemoryDisk, options: Partial<JournalOptions> = {}) =>
  Journal.open({ directory: DIRECTORY, fileSystem: disk, ...options });
const append = (journal: Journal, ...texts: string[]) =>
  Promise.all(texts.map((text) => journal.append(KIND, Buffer.from(text))));
async function contents(journal: Journal): Promise<string[]> {
  return (await journal.readNext(10_000)).map((record) => record.payload.toString());
}
const segments = async (disk: MemoryDisk) =>
  (await disk.list(DIRECTORY)).filter((name) => name.endsWith('.journal')).sort();
const bytesOf = (disk: MemoryDisk, name: string) =>
  disk.files.get(`${DIRECTORY}/${name}`)?.bytes as Buffer;

async function setBytes(disk: MemoryDisk, name: string, bytes: Buffer): Promise<void> {
  await disk.replace(`${DIRECTORY}/${name}`, bytes);
}

describe('append and read', () => {
  it('numbers records from 1 and reads them in order until they are acknowledged', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    expect(await append(journal, 'a', 'b', 'c')).toEqual([1, 2, 3]);
    expect(await contents(journal)).toEqual(['a', 'b', 'c']);
    await journal.acknowledge(2);
    expect(await contents(journal)).toEqual(['c']);
    expect(await append(journal, 'd')).toEqual([4]);
    expect(await contents(journal)).toEqual(['c', 'd']);
    expect(journal.status()).toMatchObject({ depthRecords: 2, failure: null });
  });

  it('makes many waiting records durable with one fsync', async () => {
    const disk = new MemoryDisk();
    const groups: number[] = [];
    const journal = await open(disk, { onSync: (records) => groups.push(records) });
    await append(journal, ...Array.from({ length: 100 }, (_, index) => String(index)));
    expect(groups).toEqual([100]);
  });

  it('begins a new segment when one is large, and removes those that are acknowledged', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk, { segmentBytes: 100 });
    for (const text of ['a', 'b', 'c']) await append(journal, text.repeat(60));
    expect(await segments(disk)).toHaveLength(3);
    expect(await contents(journal)).toHaveLength(3);
    await journal.acknowledge(2);
    expect(await segments(disk)).toEqual(['0000000000000003.journal']);
    await journal.acknowledge(3);
    expect(await segments(disk)).toEqual([]);
    expect(journal.status()).toMatchObject({ depthRecords: 0, bytes: 0, oldestAgeMs: 0 });
  });

  it('leaves nothing of what is drained, not even in the segment it writes to', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    await append(journal, 'a person');
    await contents(journal);
    await journal.acknowledge(1);
    expect(await segments(disk)).toEqual([]);
    expect(await append(journal, 'next')).toEqual([2]);
    expect(await contents(journal)).toEqual(['next']);
  });

  it('goes on where it was after it is closed, and takes nothing when closed', async () => {
    const disk = new MemoryDisk();
    const first = await open(disk);
    await append(first, 'a', 'b');
    await contents(first);
    await first.acknowledge(1);
    const last = append(first, 'c');
    await first.close();
    await last;
    await expect(append(first, 'd')).rejects.toEqual(unavailable);
    await expect(first.readNext(1)).rejects.toEqual(unavailable);
    const second = await open(disk);
    expect(await append(second, 'e')).toEqual([4]);
    expect(await contents(second)).toEqual(['b', 'c', 'e']);
    expect(second.openReport).toMatchObject({ records: 2, tornTails: 0, corruptions: 0 });
  });

  it('tells depth, size and the age of the oldest record', async () => {
    const disk = new MemoryDisk();
    let nowMs = 1_000;
    const journal = await open(disk, { clock: () => nowMs });
    await append(journal, 'a');
    nowMs = 5_000;
    await append(journal, 'b');
    expect(journal.status()).toMatchObject({ depthRecords: 2, oldestAgeMs: 4_000 });
    await contents(journal);
    await journal.acknowledge(1);
    expect(journal.status()).toMatchObject({ depthRecords: 1, oldestAgeMs: 0 });
  });
});

describe('bounded size', () => {
  it('refuses what needs headroom when full, and takes what was begun', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk, { maxBytes: 300 });
    const payload = Buffer.alloc(100);
    await journal.append(KIND, payload, 0);
    await expect(journal.append(KIND, payload, 100)).rejects.toEqual(unavailable);
    expect(journal.status(200)).toMatchObject({ full: true });
    await journal.append(KIND, payload);
    await contents(journal);
    await journal.acknowledge(2);
    expect(journal.status(200)).toMatchObject({ full: false });
    await journal.append(KIND, payload, 100);
  });

  it('counts what is waiting: a burst cannot overrun the bound', async () => {
    const journal = await open(new MemoryDisk(), { maxBytes: 1_000 });
    const burst = Array.from({ length: 50 }, () => journal.append(KIND, Buffer.alloc(100), 0));
    const settled = await Promise.allSettled(burst);
    expect(settled.filter((each) => each.status === 'fulfilled').length).toBeLessThan(8);
    expect(journal.status().bytes).toBeLessThanOrEqual(1_000);
  });

  it('refuses a record that is too large for any segment', async () => {
    const journal = await open(new MemoryDisk());
    await expect(journal.append(KIND, Buffer.alloc(1024 * 1024 + 1))).rejects.toEqual(
      expect.objectContaining({ code: 'invalid_event' }),
    );
  });
});

describe('a disk that fails', () => {
  it('writes on after short writes', async () => {
    const disk = new MemoryDisk();
    disk.fault = (operation) => (operation === 'write' ? 3 : null);
    const journal = await open(disk);
    await append(journal, 'a long record', 'another');
    expect(await contents(await open(disk))).toEqual(['a long record', 'another']);
  });

  it.each(['write', 'sync', 'create'] as const)(
    'refuses the callers when %s fails, takes nothing more, and recovers in a new segment',
    async (failing) => {
      const disk = new MemoryDisk();
      const journal = await open(disk);
      if (failing !== 'create') await append(journal, 'before');
      disk.fault = (operation) => (operation === failing ? 'EIO' : null);
      const outcomes = await Promise.allSettled([append(journal, 'x'), append(journal, 'y')]);
      expect(outcomes.map((each) => each.status)).toEqual(['rejected', 'rejected']);
      expect(journal.status().failure).toMatch('EIO');
      disk.fault = () => null;
      await expect(append(journal, 'z')).rejects.toEqual(unavailable);
      await journal.recover();
      await append(journal, 'after');
      const expected = failing === 'create' ? ['after'] : ['before', 'after'];
      expect(await contents(journal)).toEqual(expected);
      const after = disk.afterPowerCut(() => 0.99);
      expect(await contents(await open(after))).toEqual(expected);
    },
  );

  it('stays failed while the disk is full, though a part of the record was written', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    await append(journal, 'before');
    let isFull = true;
    let room = 5;
    disk.fault = (operation) => {
      if (operation !== 'write' || !isFull) return null;
      if (room === 0) return 'ENOSPC';
      const taken = room;
      room = 0;
      return taken;
    };
    await expect(append(journal, 'does not fit')).rejects.toEqual(unavailable);
    await journal.recover();
    await expect(append(journal, 'still not')).rejects.toEqual(unavailable);
    isFull = false;
    await journal.recover();
    await append(journal, 'fits');
    expect(await contents(await open(disk))).toEqual(['before', 'fits']);
  });

  it('does not recover while the refused bytes cannot be cut off', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    await append(journal, 'before');
    disk.fault = (operation) => (operation === 'sync' ? 'EIO' : null);
    await expect(append(journal, 'refused')).rejects.toEqual(unavailable);
    await expect(journal.recover()).rejects.toThrow('EIO');
    expect(journal.status().failure).not.toBeNull();
    expect(await contents(journal)).toEqual(['before']);
  });

  it('writes nothing once another process has taken the directory over', async () => {
    const disk = new MemoryDisk();
    let isOwner = true;
    const journal = await open(disk, { isOwner: () => isOwner });
    await append(journal, 'mine');
    isOwner = false;
    await expect(append(journal, 'not mine')).rejects.toEqual(unavailable);
    await expect(journal.readNext(1)).rejects.toEqual(unavailable);
    await expect(journal.recover()).rejects.toThrow('taken over');
    expect(await contents(await open(disk))).toEqual(['mine']);
  });
});

describe('what a crash leaves', () => {
  it('cuts a torn tail off at every byte of the last record', async () => {
    const whole = new MemoryDisk();
    const journal = await open(whole);
    await append(journal, 'first', 'second');
    const firstTwo = bytesOf(whole, '0000000000000001.journal').length;
    await append(journal, 'the last record');
    const bytes = bytesOf(whole, '0000000000000001.journal');
    for (let length = firstTwo; length < bytes.length; length++) {
      const disk = new MemoryDisk();
      await setBytes(disk, '0000000000000001.journal', bytes.subarray(0, length));
      const reopened = await open(disk);
      expect(await contents(reopened)).toEqual(['first', 'second']);
      expect(reopened.openReport).toMatchObject({
        records: 2,
        tornTails: length > firstTwo ? 1 : 0,
        tornBytes: length - firstTwo,
        corruptions: 0,
        missingRecords: 0,
      });
      expect(await append(reopened, 'next')).toEqual([3]);
      expect(await contents(await open(disk))).toEqual(['first', 'second', 'next']);
    }
  });

  it('loses to a bit flip the record it hit alone, says so, and keeps the bytes', async () => {
    const whole = new MemoryDisk();
    const journal = await open(whole);
    await append(journal, 'first', 'second', 'third');
    const bytes = bytesOf(whole, '0000000000000001.journal');
    const texts = ['first', 'second', 'third'];
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      const disk = new MemoryDisk();
      await setBytes(disk, '0000000000000001.journal', flipped);
      const reopened = await open(disk);
      const read = await contents(reopened);
      const { corruptions, tornTails, missingRecords, damagedFiles } = reopened.openReport;
      expect(corruptions + tornTails).toBe(1);
      expect(damagedFiles).toHaveLength(1);
      expect(texts).toEqual(expect.arrayContaining(read));
      expect(read.length).toBeGreaterThanOrEqual(2);
      // Of the last record alone it cannot be told from a write that was cut off.
      expect(missingRecords).toBe(tornTails === 1 ? 0 : 3 - read.length);
      const copy = disk.files.get(`${DIRECTORY}/${damagedFiles[0]}`)?.bytes as Buffer;
      expect(flipped.includes(copy)).toBe(true);
    }
  });

  it('reports the records of a segment that is gone', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk, { segmentBytes: 50 });
    for (const text of ['a', 'b', 'c']) await append(journal, text.repeat(40));
    await disk.remove(`${DIRECTORY}/0000000000000002.journal`);
    const reopened = await open(disk);
    expect(reopened.openReport).toMatchObject({ records: 2, missingRecords: 1 });
    expect(await contents(reopened)).toHaveLength(2);
  });

  it('notices damage that comes while it is open, and drains the rest', async () => {
    const disk = new MemoryDisk();
    const damage: number[] = [];
    const onDamage = (report: { missingRecords: number }) => damage.push(report.missingRecords);
    const journal = await open(disk, { onDamage });
    await append(journal, 'first', 'second', 'third');
    const bytes = Buffer.from(bytesOf(disk, '0000000000000001.journal'));
    bytes.write('XXXX', bytes.indexOf('second'));
    await setBytes(disk, '0000000000000001.journal', bytes);
    expect(await contents(journal)).toEqual(['first', 'third']);
    expect(damage).toEqual([1]);
    expect(journal.status().depthRecords).toBe(2);
    await journal.acknowledge(3);
    expect(await segments(disk)).toEqual([]);
  });

  it('tells once of damage that was there when it was opened, and not of what was drained', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    await append(journal, 'first', 'second', 'third', 'fourth', 'fifth');
    await contents(journal);
    await journal.acknowledge(2);
    const bytes = Buffer.from(bytesOf(disk, '0000000000000001.journal'));
    for (const text of ['second', 'fourth']) bytes.write('XXXX', bytes.indexOf(text));
    await setBytes(disk, '0000000000000001.journal', bytes);
    const damage: number[] = [];
    const onDamage = (report: { missingRecords: number }) => damage.push(report.missingRecords);
    const reopened = await open(disk, { onDamage });
    expect(reopened.openReport).toMatchObject({ records: 2, missingRecords: 1, corruptions: 2 });
    expect(await contents(reopened)).toEqual(['third', 'fifth']);
    expect(damage).toEqual([]);
    expect(reopened.status().depthRecords).toBe(2);
    await reopened.acknowledge(5);
    expect(reopened.status().depthRecords).toBe(0);
  });

  it('is done with a segment of which nothing is legible', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    await append(journal, 'only');
    await setBytes(disk, '0000000000000001.journal', Buffer.alloc(200, 'x'));
    expect(await contents(journal)).toEqual([]);
    expect(journal.status().depthRecords).toBe(0);
    expect(await segments(disk)).toEqual([]);
    const again = new MemoryDisk();
    await setBytes(again, '0000000000000001.journal', Buffer.alloc(200, 'x'));
    expect((await open(again)).openReport).toMatchObject({ tornTails: 1, records: 0 });
  });

  it('reads everything again when the position is not legible', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    await append(journal, 'a', 'b');
    await contents(journal);
    await journal.acknowledge(1);
    await disk.replace(`${DIRECTORY}/acknowledged`, Buffer.from('7 00000000\n'));
    expect(await contents(await open(disk))).toEqual(['a', 'b']);
  });

  it('keeps what it could not note as drained, and loses nothing by it', async () => {
    const disk = new MemoryDisk();
    const journal = await open(disk);
    await append(journal, 'a', 'b');
    await contents(journal);
    disk.replace = () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    await expect(journal.acknowledge(2)).rejects.toThrow('full');
    const reopened = await open(disk);
    expect(reopened.openReport).toMatchObject({ records: 2, missingRecords: 0 });
    expect(await contents(reopened)).toEqual(['a', 'b']);
  });

  it('refuses a segment of another version', async () => {
    const disk = new MemoryDisk();
    const { encodeFrame } = await import('../../src/journal/frame.js');
    const header = { sequence: 1, writtenAtMs: 0, kind: 255, payload: Buffer.from('journal 9') };
    await setBytes(disk, '0000000000000001.journal', encodeFrame(header));
    await expect(open(disk)).rejects.toThrow('another version');
  });
});
