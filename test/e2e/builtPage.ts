import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename, rmdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
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
  // By a process of its own, as it is shipped: what Vitest sets in this one would build React for developers.
  const vite = resolve('node_modules/vite/bin/vite.js');
  const options = ['--logLevel', 'error', '--emptyOutDir', '--outDir', `${directory}.made`];
  const env = { PATH: process.env.PATH, HOME: process.env.HOME };
  await promisify(execFile)(process.execPath, [vite, 'build', ...options], { env });
  await rename(`${directory}.made`, directory);
}
