import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { obtainAdminKey } from '../../src/cli/adminKey.js';
import { readEnvironment } from '../../src/cli/environment.js';

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-key-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

it('is made by one of many first starts, and used by all', async () => {
  const environment = readEnvironment({ MICRODOLLAR_DATA_DIR: dataDir });
  const obtained = await Promise.all(Array.from({ length: 50 }, () => obtainAdminKey(environment)));
  expect(new Set(obtained.map(({ key }) => key)).size).toBe(1);
  expect(obtained.filter(({ isNew }) => isNew)).toHaveLength(1);
  expect(readdirSync(dataDir)).toEqual(['admin-key']);
});

it.each(['', 'xx'])('is refused where its file has %j: it can be guessed', async (kept) => {
  writeFileSync(path.join(dataDir, 'admin-key'), `${kept}\n`);
  const environment = readEnvironment({ MICRODOLLAR_DATA_DIR: dataDir });
  await expect(obtainAdminKey(environment)).rejects.toThrow(/delete it for a new admin key$/);
});

it('is refused where its file is a link to nowhere', async () => {
  symlinkSync(path.join(dataDir, 'nowhere'), path.join(dataDir, 'admin-key'));
  const environment = readEnvironment({ MICRODOLLAR_DATA_DIR: dataDir });
  await expect(obtainAdminKey(environment)).rejects.toThrow(/admin-key \(ENOENT\)/);
  expect(readdirSync(dataDir)).toEqual(['admin-key']);
});
