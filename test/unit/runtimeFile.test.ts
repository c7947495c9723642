import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { removeRuntime, writeRuntime } from '../../src/cli/runtimeFile.js';
import { currentIdentity } from '../../src/db/embedded/processes.js';

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-runtime-'));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

it('of a start is removed by it, and not by another that fails beside it', async () => {
  const place = { dataDir, databaseUrl: null };
  const file = path.join(dataDir, 'runtime.json');
  await writeRuntime(place, 'http://127.0.0.1:8787');
  await removeRuntime(place);
  expect(existsSync(file)).toBe(false);
  const other = { ...currentIdentity(), startedAt: 'another' };
  writeFileSync(file, JSON.stringify({ process: other, serverUrl: null, database: null }));
  await removeRuntime(place);
  expect(existsSync(file)).toBe(true);
});
