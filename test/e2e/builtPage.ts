import { existsSync } from 'node:fs';
import { mkdir, rename, rmdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'vite';
import { digestOfInputs, isBuiltFrom } from '../../scripts/builtFrom.js';
import { compiledProject } from '../support/programs.js';

/**
 * Directory of the page: that of `dist`, as `npm ci` leaves it, if it is of these very sources; else built
 * once a run.
 */
export async function builtPage(): Promise<string> {
  if (isBuiltFrom(digestOfInputs())) return resolve('dist/web');
  const directory = join(compiledProject(), 'page');
  const lock = `${directory}.lock`;
  while (!existsSync(directory)) {
    const isMine = await mkdir(lock).then(
      () => true,
      () => false,
    );
    if (!isMine) await sleep(50);
    else await buildInto(directory).finally(() => rmdir(lock));
  }
  return directory;
}

async function buildInto(directory: string): Promise<void> {
  if (existsSync(directory)) return;
  // Vitest's own NODE_ENV would build React for developers.
  process.env.NODE_ENV = 'production';
  await build({
    configFile: 'vite.config.ts',
    logLevel: 'error',
    build: { outDir: `${directory}.made`, emptyOutDir: true },
  });
  await rename(`${directory}.made`, directory);
}
