import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build } from 'esbuild';
import { inject } from 'vitest';

const REPOSITORY = path.resolve(import.meta.dirname, '../..');
/** What programs look for beside their sources. */
const LINKED = ['node_modules', 'drizzle', 'dist', 'package.json', 'vite.config.ts'];

export interface CompiledProject {
  dir: string;
  remove(): void;
}

/**
 * This project as plain JavaScript in a directory of its own, for the processes that tests start:
 * hundreds in a run, and each is up in a third of the time that a loader for TypeScript takes.
 */
export async function compileProject(): Promise<CompiledProject> {
  // Not in memory: some of these processes have none.
  const parent = process.platform === 'win32' ? tmpdir() : '/tmp';
  const dir = mkdtempSync(path.join(parent, 'microdollar-programs-'));
  // Some run as another user.
  await chmod(dir, 0o755);
  for (const name of LINKED) symlinkSync(path.join(REPOSITORY, name), path.join(dir, name));
  await build({
    absWorkingDir: REPOSITORY,
    entryPoints: ['src/**/*.ts', 'test/**/*.ts'],
    outbase: '.',
    outdir: dir,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    sourcemap: 'inline',
    logLevel: 'error',
  });
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Where the project lies compiled; its programs run in there by their names in the repository. */
export const compiledProject = (): string => inject('compiledProject');

/** For `spawn(process.execPath, ...)`: a program by its source's name in the repository. */
export function programPath(source: string): string {
  return path.join(compiledProject(), source.replace(/\.ts$/, '.js'));
}
