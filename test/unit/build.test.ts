/** `scripts/build.js` on what `npm ci` may leave; that it builds, `npm ci` shows. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

const REPOSITORY = path.join(import.meta.dirname, '../..');
const PLATFORM = `${process.platform}-${process.arch}`;
const PACKAGES = ['vite', 'esbuild', '@trpc/server', '@opentelemetry/sdk-trace-base'];

let home: string;
let project: string;

beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'microdollar-build-'));
  project = path.join(home, 'with a: colon');
  mkdirSync(project);
  cpSync(path.join(REPOSITORY, 'scripts'), path.join(project, 'scripts'), { recursive: true });
  for (const name of ['src', ...PACKAGES.map((each) => `node_modules/${each}`)]) make(name);
  for (const name of [
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.build.json',
    'vite.config.ts',
    'package.json',
  ])
    cpSync(path.join(REPOSITORY, name), path.join(project, name));
  for (const name of PACKAGES) writeFileSync(inModules(name, 'package.json'), '{"type":"module"}');
  write('typescript/bin/tsc', 'console.log("compiled"); process.exitCode = 7;');
  write('vite/bin/vite.js', '');
  const optionalDependencies = {
    '@typescript/of-freebsd-mips': '1',
    [`@typescript/of-${PLATFORM}`]: '1',
  };
  const manifest = JSON.stringify({ type: 'module', optionalDependencies });
  writeFileSync(inModules('typescript', 'package.json'), manifest);
});

afterEach(() => {
  rmSync(home, { recursive: true, force: true });
});

const inModules = (...names: string[]) => path.join(project, 'node_modules', ...names);
const make = (name: string) => mkdirSync(path.join(project, name), { recursive: true });

function write(program: string, code: string): void {
  mkdirSync(path.dirname(inModules(program)), { recursive: true });
  writeFileSync(inModules(program), code);
}

const build = (...args: string[]) =>
  spawnSync(process.execPath, [path.join(project, 'scripts/build.js'), ...args], {
    encoding: 'utf8',
  });

it('finds its programs, also in a directory with a colon in its name', () => {
  make(`node_modules/@typescript/of-${PLATFORM}`);
  expect(build()).toMatchObject({ status: 7, stdout: 'compiled\n', stderr: '' });
});

it('names what is not installed for this platform, and how to get it', () => {
  make('node_modules/@typescript/of-freebsd-mips');
  const stderr =
    `error: @typescript/of-${PLATFORM} not installed: ` +
    'run npm ci --include=dev --include=optional\n';
  expect(build()).toMatchObject({ status: 3, stdout: '', stderr });
  // `npm ci` itself goes on: `npm start` says it.
  expect(build('--optional')).toMatchObject({ status: 0, stdout: '', stderr: '' });
});
