import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build } from 'esbuild';

const REPOSITORY = path.resolve(import.meta.dirname, '../..');
/** What programs look for beside their sources. */
const LINKED = ['node_modules', 'drizzle', 'dist', 'package.json', 'vite.config.ts'];

export interface CompiledProject {
  dir: string;
  remove(): void;
}

/**
 * This project as plain JavaScript in a directory of its own, for the processes that tests start:
 * hundreds in a run, and each is up in a third of the time that a loader for TypeScript takes. Benchmarks
 * measure it: the loader names every function anew that a request makes.
 */
export async function compileProject(
  sources: readonly string[] = ['src/**/*.ts', 'test/**/*.ts'],
): Promise<CompiledProject> {
  // Not in memory: some of these processes have none.
  const parent = process.platform === 'win32' ? tmpdir() : '/tmp';
  const dir = mkdtempSync(path.join(parent, 'microdollar-programs-'));
  // Some run as another user.
  await chmod(dir, 0o755);
  for (const name of LINKED) symlinkSync(path.join(REPOSITORY, name), path.join(dir, name));
  await build({
    absWorkingDir: REPOSITORY,
    entryPoints: [...sources],
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
