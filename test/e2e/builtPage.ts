import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { digestOfInputs, isBuiltFrom } from '../../scripts/builtFrom.js';
import { aloneInRun } from '../support/aloneInRun.js';
import { compiledProject } from '../support/programs.js';

/**
 * Directory of the page: that of `dist`, as `npm ci` leaves it, if it is of these very sources; else built
 * once a run.
 */
export async function builtPage(): Promise<string> {
  if (isBuiltFrom(digestOfInputs())) return resolve('dist/web');
  const directory = join(compiledProject(), 'page');
  await aloneInRun('page', () => buildInto(directory));
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
