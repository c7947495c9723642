import { randomBytes } from 'node:crypto';
import { accessSync, constants, existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { hasCluster } from '../db/embedded.js';
import { makeDirectories, removeEmptyDirs } from '../directories.js';
import { LedgerError } from '../errors.js';
import { servesElsewhere } from './runtimeFile.js';

/**
 * For commands on what is there already: a name that is mistyped must not look like an empty ledger.
 * @throws LedgerError `unavailable` where the directory has no cluster
 */
export async function requireCluster(dataDir: string): Promise<void> {
  if (hasCluster(dataDir)) return;
  const remedy = (await servesElsewhere(dataDir))
    ? 'the `start` that runs from it has a DATABASE_URL; set the same one'
    : 'set MICRODOLLAR_DATA_DIR to where yours is, or DATABASE_URL; `start`, `migrate` and `restore` ' +
      'make a new one';
  throw new LedgerError('unavailable', `there is no ledger in ${resolve(dataDir)}: ${remedy}`, {
    details: { data_dir: dataDir },
  });
}

/**
 * Makes the data directory and sees that it can be written. Returns how to take that back, as
 * far as nothing was put there.
 *
 * @throws LedgerError `unavailable` when it cannot be used
 */
export async function requireDataDir(dataDir: string): Promise<() => Promise<void>> {
  let made: string | undefined;
  const takeBack = async () => {
    if (made !== undefined) removeEmptyDirs(dataDir, made);
  };
  try {
    made = makeDirectories(dataDir, 0o700);
    const trial = join(dataDir, `.${randomBytes(6).toString('hex')}.trial`);
    try {
      await writeFile(trial, Buffer.alloc(4096), { mode: 0o600 });
    } finally {
      await rm(trial, { force: true });
    }
    return takeBack;
  } catch (error) {
    await takeBack();
    throw describeUnwritable(dataDir, error as NodeJS.ErrnoException);
  }
}

function describeUnwritable(dataDir: string, error: NodeJS.ErrnoException): LedgerError {
  const code = error.code === 'ENOENT' ? reasonNotMade(dataDir) : error.code;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const remedy = isFull
    ? 'its disk is full: free some space, or set MICRODOLLAR_DATA_DIR to another disk'
    : 'set MICRODOLLAR_DATA_DIR to a directory that can be written';
  const message = `cannot use the data directory ${dataDir} (${code}); ${remedy}`;
  return new LedgerError('unavailable', message, { details: { data_dir: dataDir }, cause: error });
}

/** A mkdir says ENOENT where a directory on the way cannot be written, as if read-only. */
function reasonNotMade(dataDir: string): string {
  let existing = resolve(dataDir);
  while (!existsSync(existing)) existing = dirname(existing);
  try {
    accessSync(existing, constants.W_OK);
    return 'ENOENT';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'ENOENT';
  }
}
