import { randomBytes } from 'node:crypto';
import { chmod, link, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { LedgerError } from '../errors.js';
import { adminKeyPath, type Environment } from './environment.js';

export interface AdminKey {
  key: string;
  /** Not shown yet. */
  isNew: boolean;
}

/** Characters; what is shorter can be guessed. */
const MIN_LENGTH = 16;

/** Before anything is made or migrated. @throws LedgerError `unavailable` */
export function requireSafeAdminKey({ adminKey }: Environment): void {
  if (adminKey === null || adminKey.length >= MIN_LENGTH) return;
  const remedy =
    `give it at least ${MIN_LENGTH} (openssl rand -base64 32 makes one), ` +
    'or leave it out and one is made';
  throw guessable('MICRODOLLAR_ADMIN_KEY', adminKey, remedy);
}

function guessable(field: string, key: string, remedy: string): LedgerError {
  const what = `${field} has ${key.length} characters, which can be guessed`;
  return new LedgerError('unavailable', `${what}; ${remedy}`, { details: { field } });
}

/** MICRODOLLAR_ADMIN_KEY, else the key in the data directory, made at the first start (0600). */
export async function obtainAdminKey(environment: Environment): Promise<AdminKey> {
  if (environment.adminKey !== null) return { key: environment.adminKey, isNew: false };
  const path = adminKeyPath(environment.dataDir);
  const kept = await readKept(path);
  if (kept !== null) return { key: kept, isNew: await takeShowing(environment) };
  const key = `mdk_admin_${randomBytes(32).toString('base64url')}`;
  const draft = `${path}.${randomBytes(6).toString('hex')}.draft`;
  try {
    await writeFile(draft, `${key}\n`, { mode: 0o600, flush: true });
    // Whole, and exclusive: of two first starts, one makes the key and both use it.
    await link(draft, path);
    // Of a key that was there before, if any.
    await takeShowing(environment);
    return { key, isNew: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw unusable(path, error);
  } finally {
    await rm(draft, { force: true });
  }
  const made = await readKept(path);
  // There, and not there: a link to nowhere.
  if (made === null) throw unusable(path, Object.assign(new Error(), { code: 'ENOENT' }));
  return { key: made, isNew: false };
}

/**
 * Of a start that failed before it showed its new key: the next one does. The key stays, for another start
 * beside this one may serve with it.
 */
export async function leaveShowing(environment: Environment): Promise<void> {
  await writeFile(unshownPath(environment), '', { mode: 0o600 });
}

/** Of starts at once, unlink(2) lets one succeed. */
async function takeShowing(environment: Environment): Promise<boolean> {
  return await unlink(unshownPath(environment)).then(
    () => true,
    () => false,
  );
}

function unshownPath({ dataDir }: Environment): string {
  return `${adminKeyPath(dataDir)}.unshown`;
}

/** Null: there is none. */
async function readKept(path: string): Promise<string | null> {
  let kept: string;
  try {
    await chmod(path, 0o600);
    kept = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw unusable(path, error);
  }
  if (kept.length >= MIN_LENGTH) return kept;
  const remedy = 'delete it for a new admin key';
  if (kept === '') throw new LedgerError('unavailable', `${path} is empty; ${remedy}`);
  throw guessable(path, kept, remedy);
}

function unusable(path: string, cause: unknown): LedgerError {
  const { code } = cause as NodeJS.ErrnoException;
  return new LedgerError(
    'unavailable',
    `cannot read or write ${path} (${code}); set MICRODOLLAR_DATA_DIR to a directory that can be ` +
      'written, or MICRODOLLAR_ADMIN_KEY',
    { cause },
  );
}
