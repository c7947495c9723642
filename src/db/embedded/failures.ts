import { existsSync, statSync } from 'node:fs';
import { LedgerError } from '../../errors.js';
import { chooseAccount } from './account.js';
import type { Places } from './cluster.js';
import { summarize } from './serverLog.js';

/**
 * How the embedded server fails to start: each on one line, with the reason and the remedy.
 * All are `unavailable`: a command ends with status 3.
 */
const ELSEWHERE = 'choose another MICRODOLLAR_DATA_DIR, or set DATABASE_URL';

const FULL_DISK = `free some space there, ${ELSEWHERE}`;

/** By what PostgreSQL writes to its log; the first that fits. */
const REMEDIES: readonly [pattern: RegExp, remedy: string][] = [
  [
    /shared memory segment|semaphore/i,
    'raise the limits of the kernel or container for shared memory, or set DATABASE_URL',
  ],
  [/No space left on device|Disk quota exceeded|Check free disk space/i, FULL_DISK],
  [/File too large/, `raise the limit of file sizes (ulimit -f), ${ELSEWHERE}`],
  [/wrong ownership|invalid permissions/, 'give it back to the user who made it, with mode 0700'],
  [/Permission denied|Read-only file system/i, `let this user write there, ${ELSEWHERE}`],
  [
    /[Ii]ncompatible|was not initialized|checksum|corrupt/,
    `restore it from a backup, ${ELSEWHERE}`,
  ],
];

function refusal(places: Places, message: string, cause?: unknown, details = {}): LedgerError {
  return new LedgerError('unavailable', message, {
    details: { directory: places.root, log: places.log, ...details },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The directory cannot be used because of a process. */
export function heldBy(places: Places, pid: number | undefined, what: string): LedgerError {
  return refusal(
    places,
    `${places.root} is in use: process ${pid ?? 'unknown'} ${what}; ` +
      `stop that process, ${ELSEWHERE}`,
    undefined,
    { pid: pid ?? null },
  );
}

/** A program of PostgreSQL's did not do its work, in the words of its log. */
export function failedProgram(
  places: Places,
  what: string,
  log: readonly string[],
  cause?: unknown,
): LedgerError {
  const said = summarize(log);
  const usual = REMEDIES.find(([pattern]) => pattern.test(said))?.[1] ?? ELSEWHERE;
  const remedy = (/Permission denied/.test(said) && toOwner(places)) || usual;
  const parts = [`embedded PostgreSQL in ${places.root}: ${what}`, said, remedy];
  return refusal(places, parts.filter((part) => part).join('; '), cause);
}

/** Root's copy of a cluster, made without its owners. Null: we are not root, or there is none. */
function toOwner({ cluster }: Places): string | null {
  const account = existsSync(cluster) ? chooseAccount(cluster) : null;
  if (account === null) return null;
  const command = `chown -R ${account.uid}:${account.gid} ${cluster}`;
  return `the server runs as ${account.name}: give it its files (${command}), ${ELSEWHERE}`;
}

/** After a crash a server first replays what it wrote, however long that takes. */
export function recovering(places: Places): LedgerError {
  return refusal(
    places,
    `embedded PostgreSQL in ${places.root}: not ready yet; it goes on starting, try again`,
    undefined,
    { is_starting: true },
  );
}

/** Whether the server was left starting: whoever asks again, waits for the same one. */
export function isStarting(error: unknown): boolean {
  return error instanceof LedgerError && error.details.is_starting === true;
}

/** Files of the directory could not be read or written. Other errors are handed back. */
export function failedFiles(places: Places, error: unknown): unknown {
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (error instanceof LedgerError || code === undefined || syscall === undefined) return error;
  const owner = statSync(places.root, { throwIfNoEntry: false })?.uid;
  if (code === 'EACCES' && owner !== undefined && owner !== process.geteuid?.()) {
    return ownedByAnother(places, owner, error);
  }
  const remedy = remedyOf(code);
  const message = (error as Error).message;
  return refusal(places, `cannot use ${places.root} (${message}): ${remedy}`, error);
}

function remedyOf(code: string): string {
  if (['ENOSPC', 'EDQUOT'].includes(code)) return FULL_DISK;
  // As with `docker run --cap-drop ALL`, or on a disk of another machine's (NFS).
  const isRoot = ['EACCES', 'EPERM'].includes(code) && process.geteuid?.() === 0;
  return isRoot
    ? `root lacks the right to do that here: run as an ordinary user, ${ELSEWHERE}`
    : `make it usable, ${ELSEWHERE}`;
}

/** The files of a data directory belong to the user who made it. */
function ownedByAnother(places: Places, uid: number, cause: unknown): LedgerError {
  return refusal(
    places,
    `${places.root} was set up by uid ${uid}: run as that user, ${ELSEWHERE}`,
    cause,
    { uid },
  );
}

export function passwordMissing(places: Places, cause: unknown): LedgerError {
  return refusal(
    places,
    `${places.password} is missing: bring it back, or remove ${places.root} with all its data`,
    cause,
  );
}

export function noLoopback(places: Places, cause: NodeJS.ErrnoException): LedgerError {
  return refusal(
    places,
    `the server would not be reached on 127.0.0.1 (${cause.code ?? cause.message}): bring up the loopback ` +
      'interface (ip link set lo up), let connections to it pass, or set DATABASE_URL',
    cause,
  );
}

/** Processes cannot be told from each other. */
export function noProcesses(places: Places): LedgerError {
  return refusal(
    places,
    '/proc, which the embedded PostgreSQL needs, is not there: mount it (mount -t proc proc /proc), ' +
      'or set DATABASE_URL',
  );
}

/** A new cluster does not fit. */
export function noSpace(places: Places, freeBytes: number, neededBytes: number): LedgerError {
  const inMb = (bytes: number) => `${Math.floor(bytes / 1_000_000)} MB`;
  return refusal(
    places,
    `the disk of ${places.root} has ${inMb(freeBytes)} free, a new database needs ` +
      `${inMb(neededBytes)}: ${FULL_DISK}`,
  );
}

/** What lies in the directory is a cluster, but none that our programs can run. */
export function foreignCluster(places: Places, what: string, remedy: string): LedgerError {
  return refusal(places, `${what}: ${remedy}, ${ELSEWHERE}`);
}
