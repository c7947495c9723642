import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { nodeFileSystem } from '../../src/journal/fileSystem.js';
import { Journal } from '../../src/journal/journal.js';
import { nodeArchiveFileSystem } from '../../src/rollup/archive/fileSystem.js';
import { recordSyncs, type Synced } from '../support/recordedSyncs.js';

let directory: string;
let synced: Synced[];

beforeEach(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'microdollar-durable-'));
  synced = await recordSyncs(directory);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true, force: true });
});

const pathOf = (name: string) => path.join(directory, name);

describe('on the real file system', () => {
  it('a file is replaced by a draft that is on the disk, and then so is its name', async () => {
    await nodeFileSystem.replace(pathOf('position'), Buffer.from('1'));
    synced.length = 0;
    await nodeFileSystem.replace(pathOf('position'), Buffer.from('22'));
    expect(synced).toEqual([
      { what: 'file', names: [expect.stringContaining('.draft')], bytes: '22' },
      { what: 'directory', entries: { position: '22' } },
    ]);
  });

  it('a line that is added is on the disk, and the name of a new file too', async () => {
    await nodeFileSystem.append(pathOf('letters'), Buffer.from('a\n'));
    await nodeFileSystem.append(pathOf('letters'), Buffer.from('b\n'));
    const files = synced.filter(({ what }) => what === 'file');
    expect(files).toMatchObject([{ bytes: 'a\n' }, { bytes: 'a\nb\n' }]);
    expect(synced).toContainEqual({ what: 'directory', entries: { letters: 'a\n' } });
  });

  it('a directory that is made has its name on the disk, and so have those above it', async () => {
    await nodeFileSystem.makeDirectory(pathOf('journal/0'));
    expect(synced).toEqual([
      { what: 'file', names: ['journal'], bytes: '' },
      { what: 'directory', entries: { journal: '' } },
    ]);
    await nodeFileSystem.makeDirectory(pathOf('journal/0'));
    expect(synced).toHaveLength(2);
  });

  it('what the journal answers for is on the disk, in a file whose name is', async () => {
    const journal = await Journal.open({ directory });
    await journal.append(1, Buffer.from('first record'));
    const isNamed = synced.findIndex(({ what }) => what === 'directory');
    expect(isNamed).toBeGreaterThanOrEqual(0);
    expect(synced.at(-1)).toMatchObject({
      what: 'file',
      bytes: expect.stringContaining('first record'),
    });
    await journal.append(1, Buffer.from('second record'));
    expect(synced.at(-1)).toMatchObject({ bytes: expect.stringContaining('second record') });
    await journal.readNext(2);
    synced.length = 0;
    await journal.acknowledge(2);
    // Noted, and durably so, before the segment is gone.
    expect(synced[0]).toMatchObject({ what: 'file' });
    const segments = (each: Synced | undefined) =>
      each?.what === 'directory'
        ? Object.values(each.entries).filter((bytes) => bytes.includes('second record')).length
        : -1;
    expect(segments(synced[1])).toBe(1);
    await journal.close();
  });

  it('a file of the archive is on the disk before it has its name', async () => {
    const file = await nodeArchiveFileSystem.create(pathOf('x.draft'));
    await file.write(Buffer.from('rows'));
    await file.sync();
    await file.close();
    await nodeArchiveFileSystem.name(pathOf('x.draft'), pathOf('x.gz'));
    await nodeArchiveFileSystem.syncDirectory(directory);
    expect(synced).toEqual([
      { what: 'file', names: ['x.draft'], bytes: 'rows' },
      { what: 'directory', entries: { 'x.gz': 'rows' } },
    ]);
  });
});
