import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { CONNECTION_USES } from '../../src/connections.js';
import { findDeadLinks } from '../support/links.js';

const REPOSITORY = path.join(import.meta.dirname, '../..');
const FOLDERS = ['src', 'test', 'docs', 'bench', 'scripts', 'drizzle', 'contrib', '.ci'];

const NAMED_FILE = /`([\w./-]+\.(?:ts|tsx|sql|md|sh))`/g;
const PATH = /\b(?:docs|src|test|bench|scripts)\/[\w./-]+\.(?:sql\.ts|md|tsx?|sql)\b(?!\.)/g;

async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(path.join(REPOSITORY, folder), {
    recursive: true,
    withFileTypes: true,
  });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(REPOSITORY, path.join(entry.parentPath, entry.name)));
}

async function sources(): Promise<string[]> {
  return [...(await Promise.all(FOLDERS.map(filesOf))).flat(), 'README.md', 'CHANGELOG.md'];
}

const read = (file: string) => readFile(path.join(REPOSITORY, file), 'utf8');
const exists = (...parts: string[]) => existsSync(path.join(REPOSITORY, ...parts));

/** Of `createLedger` where it is told nothing else. */
const POOL_SIZE = 10;

describe('the documents', () => {
  it('say how many connections a process may open', async () => {
    // Reads go to the ledger's where there is no replica.
    const { read: _read, ...uses } = CONNECTION_USES;
    const sizes = Object.values(uses).map((use) => ('size' in use ? use.size : POOL_SIZE));
    const most = sizes.reduce((sum, size) => sum + size, 0);
    for (const file of ['docs/operations.md', 'docs/operations/sizing.md']) {
      const said = [...(await read(file)).matchAll(/(\d+) per process/g)].map(([, n]) => Number(n));
      expect([file, ...new Set(said)]).toEqual([file, most]);
    }
  });

  it('link to what is there', async () => {
    const documents = (await sources()).filter((name) => name.endsWith('.md'));
    expect(documents.flatMap((file) => findDeadLinks(REPOSITORY, file))).toEqual([]);
  });

  // A decision that was superseded may name what it decided.
  it('name files that are there', async () => {
    const all = await sources();
    const names = new Set(all.map((file) => path.basename(file)));
    const unknown: string[] = [];
    for (const file of all.filter((name) => name.endsWith('.md') && !name.includes('/adr/'))) {
      for (const [, name = ''] of (await read(file)).matchAll(NAMED_FILE)) {
        if (!names.has(path.basename(name))) unknown.push(`${file}: ${name}`);
      }
    }
    expect(unknown).toEqual([]);
  });
});

describe('the comments', () => {
  it('cite files that are there', async () => {
    const unknown: string[] = [];
    for (const file of (await sources()).filter((name) => /\.(ts|tsx|sql)$/.test(name))) {
      for (const [cited] of (await read(file)).matchAll(PATH)) {
        const source = cited.replace(/\.sql$/, '.sql.ts');
        if (!exists(cited) && !exists(source)) unknown.push(`${file}: ${cited}`);
      }
    }
    expect(unknown).toEqual([]);
  });

  it('cite rules and invariants that are written down', async () => {
    const rules = await read('src/counter/README.md');
    const invariants = await read('docs/invariants.md');
    const unknown: string[] = [];
    for (const file of (await filesOf('src')).filter((name) => /\.(ts|tsx|sql)$/.test(name))) {
      const text = await read(file);
      for (const [, rule = ''] of text.matchAll(/\((?:[^()]*[ ,])?(R\d+)[),:;]/g)) {
        if (!new RegExp(`\\b${rule}\\b`).test(rules)) unknown.push(`${file}: ${rule}`);
      }
      for (const [, invariant = ''] of text.matchAll(/\((?:[^()]*[ ,])?(I\d+)[),:;]/g)) {
        if (!new RegExp(`\\b${invariant}\\b`).test(invariants)) {
          unknown.push(`${file}: ${invariant}`);
        }
      }
    }
    expect(unknown).toEqual([]);
  });
});
