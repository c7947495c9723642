/** Copies of PostgreSQL's programs for an account that cannot read the installed ones. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { publishPrograms, requireSafe } from '../../src/db/embedded/publish.js';
import { namingLibrary } from '../../src/db/embedded/userName.js';

const isRoot = process.getuid?.() === 0;

let dir: string;
let from: string;
let place: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'microdollar-programs-'));
  from = path.join(dir, 'package');
  place = path.join(dir, 'place');
  mkdirSync(place, { mode: 0o755 });
  const write = (name: string, content: string, mode: number) => {
    const file = path.join(from, 'native', name);
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, content, { mode });
  };
  write('bin/postgres', 'program', 0o700);
  write('lib/libx.so.1', 'library', 0o600);
  write('share/timezone/UTC', 'zone', 0o666);
  const links = [{ source: 'native/lib/libx.so.1', target: 'native/lib/libx.so' }];
  write('pg-symlinks.json', JSON.stringify(links), 0o600);
});

afterEach(() => rmSync(dir, { recursive: true, force: true }));

const publish = (attempt = async (_dir: string) => {}) =>
  publishPrograms({ from, version: '18.4.0', place, attempt });

const modeOf = (...parts: string[]) => lstatSync(path.join(...parts)).mode & 0o777;
const fileOf = (copy: string) => path.join(copy, 'native', 'share', 'timezone', 'UTC');

describe('a published copy', () => {
  it('can be read and run by everybody, and written by nobody else', async () => {
    const copy = await publish();
    expect(modeOf(copy)).toBe(0o755);
    expect(modeOf(copy, 'native/bin/postgres')).toBe(0o755);
    expect(modeOf(copy, 'native/lib/libx.so.1')).toBe(0o644);
    expect(modeOf(fileOf(copy))).toBe(0o644);
    expect(readFileSync(path.join(copy, 'native/lib/libx.so'), 'utf8')).toBe('library');
    expect(modeOf(from, 'native/lib/libx.so.1')).toBe(0o600);
  });

  it('is made once, also by many at once', async () => {
    const copies = await Promise.all(Array.from({ length: 8 }, () => publish()));
    expect(new Set(copies).size).toBe(1);
    const { ino } = lstatSync(fileOf(await publish()));
    await publish();
    expect(lstatSync(fileOf(await publish())).ino).toBe(ino);
    expect(readdirSync(place)).toEqual([path.basename(copies[0] ?? '')]);
  });

  const damages: Readonly<Record<string, (copy: string) => void>> = {
    'a changed file': (copy) => appendFileSync(fileOf(copy), 'x'),
    'a cut file': (copy) => truncateSync(fileOf(copy), 1),
    'a missing file': (copy) => rmSync(fileOf(copy)),
    'one file more': (copy) => writeFileSync(`${fileOf(copy)}.so`, ''),
    'a file that others may write': (copy) => chmodSync(fileOf(copy), 0o646),
    'a directory that others may write': (copy) => chmodSync(path.join(copy, 'native/lib'), 0o777),
    'a file in its place': (copy) => {
      rmSync(copy, { recursive: true });
      writeFileSync(copy, '');
    },
    ...(isRoot
      ? { 'a file of another owner': (copy: string) => chownSync(fileOf(copy), 65534, 65534) }
      : {}),
  };
  for (const [damage, inflict] of Object.entries(damages)) {
    it(`is made anew when it has ${damage}`, async () => {
      const copy = await publish();
      inflict(copy);
      expect(await publish()).toBe(copy);
      expect(readFileSync(fileOf(copy), 'utf8')).toBe('zone');
      expect(modeOf(fileOf(copy))).toBe(0o644);
      expect(lstatSync(fileOf(copy)).uid).toBe(process.geteuid?.());
      expect(readdirSync(path.dirname(fileOf(copy)))).toEqual(['UTC']);
      expect(readdirSync(place)).toEqual([path.basename(copy)]);
    });
  }

  it('gets its missing links back', async () => {
    const copy = await publish();
    rmSync(path.join(copy, 'native/lib/libx.so'));
    expect(await publish()).toBe(copy);
    expect(readFileSync(path.join(copy, 'native/lib/libx.so'), 'utf8')).toBe('library');
  });

  it('is another one for other content', async () => {
    const copy = await publish();
    writeFileSync(path.join(from, 'native/bin/postgres'), 'newer');
    expect(await publish()).not.toBe(copy);
  });

  it('does not stay when it cannot be run there', async () => {
    const failure = publish(async () => {
      throw new Error('noexec');
    });
    await expect(failure).rejects.toThrow('noexec');
    expect(readdirSync(place)).toEqual([]);
  });

  it('takes away what a killed process left, but not what is being made', async () => {
    const [old, young] = ['old', 'young'].map((name) => {
      const draft = path.join(place, `microdollar-postgresql-draft-${name}`);
      mkdirSync(draft);
      return draft;
    });
    utimesSync(old ?? '', new Date(0), new Date(0));
    const copy = await publish();
    expect(readdirSync(place).sort()).toEqual(
      [copy, young ?? ''].map((it) => path.basename(it)).sort(),
    );
  });
});

describe('a place for copies', () => {
  it('is not safe where others may write, unless it is sticky', () => {
    requireSafe(place);
    chmodSync(place, 0o777);
    expect(() => requireSafe(place)).toThrow(`others may write in ${place}`);
    chmodSync(place, 0o1777);
    requireSafe(place);
    const inside = path.join(place, 'inside');
    mkdirSync(inside);
    chmodSync(place, 0o777);
    expect(() => requireSafe(inside)).toThrow('others may write');
  });

  it('is judged by where it really is', () => {
    const link = path.join(dir, 'link');
    symlinkSync(place, link);
    chmodSync(place, 0o777);
    expect(() => requireSafe(link)).toThrow(`others may write in ${place}`);
  });

  if (isRoot) {
    it('is not safe in the directory of another user', () => {
      chownSync(place, 65534, 65534);
      expect(() => requireSafe(place)).toThrow('others may write');
    });
  }
});

describe('the library that names a user without a name', () => {
  it('answers getpwuid for the loader of this machine', () => {
    const file = path.join(dir, 'name.so');
    writeFileSync(file, namingLibrary());
    const under = isRoot ? { uid: 12345 } : {};
    chmodSync(dir, 0o755);
    const env = { ...process.env, LD_PRELOAD: file };
    expect(execFileSync('id', ['-un'], { ...under, env, encoding: 'utf8' })).toBe('postgres\n');
  });

  it('is refused for other machines with the remedy', () => {
    expect(() => namingLibrary('ppc64')).toThrow('run as a user of this system');
  });
});
