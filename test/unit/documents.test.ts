import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { CONNECTION_USES } from '../../src/connections.js';
import { GATEWAY_CONNECTIONS } from '../../src/gateway/durable/index.js';
import { findDeadLinks } from '../support/links.js';

const REPOSITORY = path.join(import.meta.dirname, '../..');
const FOLDERS = ['src', 'test', 'docs', 'bench', 'scripts', 'drizzle', 'contrib', '.ci'];

const NAMED_FILE = /`([\w./-]+\.(?:ts|tsx|sql|md|sh))`/g;
const PATH = /\b(?:docs|src|test|bench|scripts)\/[\w./-]+\.(?:sql\.ts|md|tsx?|sql)\b(?!\.)/g;

const NAMED_TASK = /(?:\bname: |\bname = |tell\(error, |\btask: )'([a-z_]+)'/g;

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
/** Of a `start`, beside its ledger's pools: one verifies, one looks for months to prepare. */
const OTHER_CONNECTIONS = 2 + GATEWAY_CONNECTIONS;

describe('the documents', () => {
  it('say how many connections a process may open', async () => {
    // Reads go to the ledger's where there is no replica.
    const { read: _read, ...uses } = CONNECTION_USES;
    const sizes = Object.values(uses).map((use) => ('size' in use ? use.size : POOL_SIZE));
    const most = sizes.reduce((sum, size) => sum + size, OTHER_CONNECTIONS);
    for (const file of ['docs/operations.md', 'docs/operations/sizing.md']) {
      const said = [...(await read(file)).matchAll(/(\d+) per process/g)].map(([, n]) => Number(n));
      expect([file, ...new Set(said)]).toEqual([file, most]);
    }
  });

  it('say what waits for each task in the background that can fail', async () => {
    const tasks = new Set<string>();
    for (const file of (await filesOf('src')).filter((name) => name.endsWith('.ts'))) {
      const text = await read(file);
      if (!/from '[./]+background\.js'/.test(text)) continue;
      for (const [, name = ''] of text.matchAll(NAMED_TASK)) tasks.add(name);
    }
    // It has a metric of its own.
    tasks.delete('read_mode');
    const [, section = ''] = (await read('docs/runbook.md')).split('## Background errors\n');
    const rows = [...(section.split('\n## ')[0] ?? '').matchAll(/^\| (`.+?) \|/gm)];
    const told = rows.flatMap(([, cell = '']) =>
      [...cell.matchAll(/`(\w+)`/g)].map(([, it]) => it),
    );
    expect([...told].sort()).toEqual([...tasks].sort());
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
