import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type ArchiveFileSystem,
  nodeArchiveFileSystem,
} from '../../src/rollup/archive/fileSystem.js';
import { checkInvariants } from '../support/checkInvariants.js';
import {
  type ArchiveFixture,
  createSmallFixture,
  daysAgo,
  reportedTotals,
} from './archiveHarness.js';
import { ledgerErrorOf } from './ledgerHarness.js';

const FIRST = daysAgo(6);
const LAST = daysAgo(5);
const ROWS = 60;

let fixture: ArchiveFixture;

beforeEach(async () => {
  fixture = await createSmallFixture();
});

afterEach(() => fixture.close());

/** Nothing deleted, nothing changed, and the horizon is still down. */
async function _expectUntouched(): Promise<void> {
  expect(await fixture.rawIds()).toHaveLength(ROWS);
  expect(await fixture.rows('select archive_horizon from ledger_settings')).toEqual([
    { archive_horizon: null },
  ]);
}

const refusalOf = (until = LAST) => ledgerErrorOf(fixture.archive(until));

describe('a file', () => {
  const damaging = (damage: (path: string) => Promise<void>): ArchiveFileSystem => ({
    ...nodeArchiveFileSystem,
    async *read(path) {
      await damage(path);
      yield* nodeArchiveFileSystem.read(path);
    },
  });

  /** A bit of a file, so far from its beginning. */
  async function flipBit(path: string, share: number): Promise<void> {
    const bytes = await readFile(path);
    const at = Math.floor(bytes.length * share);
    bytes[at] = (bytes[at] ?? 0) ^ 4;
    await writeFile(path, bytes);
  }

  it.each([0.05, 0.3, 0.5, 0.8, 0.999])(
    'with one bit flipped before it is read back is found, and nothing is deleted (%s)',
    async (share) => {
      const before = await reportedTotals(fixture);
      const fileSystem = damaging((path) => flipBit(path, share));
      const error = await ledgerErrorOf(fixture.archive(LAST, { fileSystem }));
      expect(error.code).toBe('internal');
      expect(error.message).toMatch(/is damaged/);
      expect(await fixture.rawIds()).toHaveLength(ROWS);
      expect(await reportedTotals(fixture)).toEqual(before);
      expect(await checkInvariants(fixture.database.pool)).toEqual([]);
      // The draft is thrown away, and all goes well.
      expect(await fixture.archive(LAST)).toMatchObject({ days: 2 });
      await fixture.expectExact();
    },
  );

  /** Another status code in one line, packed anew; with `fixDigest` under a digest that fits. */
  async function forge(path: string, fixDigest: boolean): Promise<void> {
    const lines = gunzipSync(await readFile(path))
      .toString()
      .split('\n');
    lines[1] = lines[1]?.replace('"status_code":200', '"status_code":201') ?? '';
    const body = lines.slice(0, -2).map((line) => `${line}\n`);
    const trailer = JSON.parse(lines.at(-2) ?? '');
    if (fixDigest) trailer.sha256 = createHash('sha256').update(body.join('')).digest('hex');
    await writeFile(path, gzipSync(`${body.join('')}${JSON.stringify(trailer)}\n`));
  }

  it.each([
    [false, 'its SHA-256 differs'],
    [true, 'it reads back differently from what was written'],
  ])('changed and packed anew is found by its digest (%s)', async (fixDigest, problem) => {
    const fileSystem = damaging((path) => forge(path, fixDigest));
    const error = await ledgerErrorOf(fixture.archive(LAST, { fileSystem }));
    expect(error.message).toContain(problem);
    expect(await fixture.rawIds()).toHaveLength(ROWS);
  });

  it('left by an earlier run and damaged since is found, and kept', async () => {
    const abort = new AbortController();
    await fixture.archive(LAST, {
      signal: abort.signal,
      limits: { rowsPerTransaction: 4 },
      onStep: (step) => step === 'moved' && abort.abort(),
    });
    const [name = ''] = await readdir(fixture.directory);
    const path = join(fixture.directory, name);
    const good = await readFile(path);
    await flipBit(path, 0.5);
    const { failures } = await fixture.archive(LAST);
    expect(failures).toEqual([
      { period: FIRST, message: expect.stringContaining('It may be the only copy') },
    ]);
    const left = await fixture.rawIds();
    await writeFile(path, good.subarray(0, good.length - 20));
    expect((await refusalOf()).message).toContain(name);
    expect(await fixture.rawIds()).toEqual(left);
    await expect(fixture.archived()).rejects.toThrow('damaged');
    await writeFile(path, good);
    expect(await fixture.archive(LAST)).toMatchObject({ filesTakenUp: 1 });
    await fixture.expectExact();
  });

  it('that differs from the table deletes nothing', async () => {
    const abort = new AbortController();
    await fixture.archive(LAST, {
      signal: abort.signal,
      limits: { rowsPerTransaction: 4 },
      onStep: (step) => step === 'named' && abort.abort(),
    });
    // Counted everywhere, so that only the file can tell.
    await fixture.rows(
      `with changed as (
         update microdollar_usage set cost = cost + 1
         where id = (select id from microdollar_usage where created_at < $1::date + 1
           order by id limit 1)
         returning kilo_user_id
       ), daily as (
         update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 1
         where usage_date = $1 and kilo_user_id in (select kilo_user_id from changed)
       )
       update kilocode_users set microdollars_used = microdollars_used + 1
       where id in (select kilo_user_id from changed)`,
      [FIRST],
    );
    const error = await refusalOf();
    expect(error).toMatchObject({ code: 'internal' });
    expect(error.message).toContain('differs from its archive file');
    expect(await fixture.rawIds()).toHaveLength(ROWS);
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
  });

  it('has its bytes and its name on the disk before a row of it is deleted', async () => {
    const done: string[] = [];
    const fileSystem: ArchiveFileSystem = {
      ...nodeArchiveFileSystem,
      async create(path) {
        const file = await nodeArchiveFileSystem.create(path);
        return { ...file, sync: () => file.sync().then(() => void done.push('bytes')) };
      },
      async name(draft, path) {
        await nodeArchiveFileSystem.name(draft, path);
        done.push('named');
      },
      async syncDirectory(path) {
        await nodeArchiveFileSystem.syncDirectory(path);
        done.push('name');
      },
    };
    const onStep = (step: string) => step === 'moved' && done.push('deleted');
    await fixture.archive(LAST, { fileSystem, onStep });
    const each = ['bytes', 'named', 'name', 'deleted'];
    expect(done).toEqual([...each, ...each]);
  });

  it('gets no name once the lock is lost: another archive may have the day', async () => {
    let isEnded = false;
    const fileSystem = damaging(async () => {
      if (isEnded) return;
      isEnded = true;
      const held = `select pid from pg_locks where locktype = 'advisory' and classid = 1297369171`;
      const [lock] = await fixture.rows<{ pid: number }>(
        `select pg_terminate_backend(pid), pid from (${held}) as l`,
      );
      const session = 'select from pg_stat_activity where pid = $1';
      await expect.poll(() => fixture.rows(session, [lock?.pid]), { timeout: 20_000 }).toEqual([]);
    });
    // A file that has its name is taken up by the next pass.
    expect(await fixture.archive(LAST, { fileSystem })).toMatchObject({ days: 2, filesTakenUp: 0 });
    await fixture.expectExact();
  });

  it('is in directories whose own names are on the disk before it has one', async () => {
    const done: string[] = [];
    const fileSystem: ArchiveFileSystem = {
      ...nodeArchiveFileSystem,
      async name(draft, path) {
        await nodeArchiveFileSystem.name(draft, path);
        done.push('named');
      },
      async syncDirectory(path) {
        await nodeArchiveFileSystem.syncDirectory(path);
        done.push(path);
      },
    };
    const above = join(fixture.directory, 'new');
    const directory = join(above, 'files');
    await fixture.archive(FIRST, { fileSystem, directory });
    expect(done).toEqual([above, fixture.directory, 'named', directory]);
  });

  it('that the disk has no room for is given up, and nothing is deleted', async () => {
    for (const failing of ['write', 'sync'] as const) {
      const fileSystem: ArchiveFileSystem = {
        ...nodeArchiveFileSystem,
        async create(path) {
          const file = await nodeArchiveFileSystem.create(path);
          const full = () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
          return { ...file, [failing]: full };
        },
      };
      const error = await ledgerErrorOf(fixture.archive(LAST, { fileSystem }));
      expect(error).toMatchObject({ code: 'unavailable' });
      expect(error.message).toContain('the disk is full (ENOSPC)');
    }
    expect(await readdir(fixture.directory)).toEqual([]);
    expect(await fixture.rawIds()).toHaveLength(ROWS);
    expect(await fixture.archive(LAST)).toMatchObject({ days: 2 });
    await fixture.expectExact();
  });
});
