import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll } from 'vitest';
import { runCli } from '../../src/cli/program.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

export interface CliRun {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a command in this process and keeps what it prints. */
export async function runCommand(env: NodeJS.ProcessEnv, ...argv: string[]): Promise<CliRun> {
  const printed = { stdout: '', stderr: '' };
  const capture = (name: keyof typeof printed) =>
    new Writable({
      write(chunk, _encoding, done) {
        printed[name] += String(chunk);
        done();
      },
    });
  const streams = { stdout: capture('stdout'), stderr: capture('stderr') };
  const status = await runCli(argv, streams, env);
  return { status, ...printed };
}

/** The one document of a `--json` run; fails when stdout holds anything else. */
export function documentOf(run: CliRun) {
  return JSON.parse(run.stdout);
}

/** A database and a directory for one test file, and commands that run on them. */
export function useCli() {
  const context = {
    dir: '',
    database: undefined as unknown as TestDatabase,
    run: (...argv: string[]) =>
      runCommand(
        { DATABASE_URL: context.database.url, MICRODOLLAR_DATA_DIR: context.dir },
        ...argv,
      ),
    /** Runs with `--json` and reads the document. */
    async ask(...argv: string[]) {
      const run = await context.run('--json', ...argv);
      return { status: run.status, document: documentOf(run) };
    },
    async file(name: string, content: string | Buffer): Promise<string> {
      const path = join(context.dir, name);
      await writeFile(path, content);
      return path;
    },
  };
  beforeAll(async () => {
    context.dir = await mkdtemp(join(tmpdir(), 'microdollar-cli-'));
    context.database = await createTestDatabase();
  });
  afterAll(async () => {
    await context.database?.drop();
    await rm(context.dir, { recursive: true, force: true });
  });
  return context;
}
