import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { type Account, hasUserName, launchOn } from './account.js';
import type { Binaries } from './binaries.js';
import { failedProgram, noSpace, passwordMissing } from './failures.js';
import { logSize, openLog, tailOfLog } from './serverLog.js';
import { namingLibrary } from './userName.js';

/** A new cluster, its first write-ahead log and the migrations, with room to begin. */
const NEW_CLUSTER_BYTES = 100_000_000;
const REMOVE = { recursive: true, force: true, maxRetries: 3 } as const;

/** Where everything of one embedded server lies: `<dataDir>/postgres`. */
export interface Places {
  root: string;
  /** The PostgreSQL cluster, owned by the account that runs it, mode 0700. */
  cluster: string;
  /** The superuser's password, ours, mode 0600. */
  password: string;
  log: string;
  members: string;
  lock: string;
  /** Programs of our own, where the installed ones cannot be used. */
  programs: string;
}

export function placesOf(dataDir: string): Places {
  const root = path.join(path.resolve(dataDir), 'postgres');
  return {
    root,
    cluster: path.join(root, 'cluster'),
    password: path.join(root, 'password'),
    log: path.join(root, 'server.log'),
    members: path.join(root, 'members'),
    lock: path.join(root, 'lock'),
    programs: path.join(root, 'programs'),
  };
}

/**
 * Removes what we keep in the root, and the root when nothing else is there. The lock, which the
 * caller holds, comes last and goes in one step: who waits for it makes a new one.
 */
export function discard(places: Places): void {
  const { root, lock } = places;
  removeDrafts(places);
  for (const own of [places.cluster, places.password, places.log, `${places.log}.1`]) {
    rmSync(own, REMOVE);
  }
  rmSync(places.programs, REMOVE);
  rmSync(places.members, REMOVE);
  const gone = `${lock}.${randomBytes(6).toString('hex')}.gone`;
  renameSync(lock, gone);
  rmSync(gone, REMOVE);
  try {
    rmdirSync(root);
  } catch {
    // Somebody waited, or keeps something else there.
  }
}

export function readPassword(places: Places): string {
  try {
    return readFileSync(places.password, 'utf8').trim();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw passwordMissing(places, cause);
  }
}

/**
 * Makes the cluster unless it is there. It is built beside its place and moved there when it is
 * complete and (unless `sync` is false) on disk: a kill meanwhile leaves no half cluster.
 */
export async function createCluster(
  places: Places,
  binaries: Binaries,
  account: Account | null,
  sync: boolean,
): Promise<void> {
  if (existsSync(places.cluster)) return;
  requireSpace(places);
  removeDrafts(places);
  const draft = path.join(places.root, `cluster.${randomBytes(6).toString('hex')}.draft`);
  const passwordCopy = `${draft}.password`;
  const password = randomBytes(24).toString('hex');
  try {
    // On disk before the cluster, which nobody could use without it.
    writeFileSync(places.password, `${password}\n`, { mode: 0o600, flush: sync });
    writeFileSync(passwordCopy, `${password}\n`, { mode: 0o600 });
    mkdirSync(draft, { mode: 0o700 });
    if (account) {
      chownSync(draft, account.uid, account.gid);
      chownSync(passwordCopy, account.uid, account.gid);
    }
    await runInitdb(places, { binaries, account, draft, passwordCopy, sync });
    renameSync(draft, places.cluster);
  } finally {
    rmSync(passwordCopy, REMOVE);
    rmSync(draft, REMOVE);
  }
}

function requireSpace(places: Places): void {
  const { bavail, bsize } = statfsSync(places.root);
  const freeBytes = bavail * bsize;
  if (freeBytes < NEW_CLUSTER_BYTES) throw noSpace(places, freeBytes, NEW_CLUSTER_BYTES);
}

interface Initdb {
  binaries: Binaries;
  account: Account | null;
  draft: string;
  passwordCopy: string;
  sync: boolean;
}

/**
 * Its descriptor 3 is the password file, which an account reads through it: the path leads
 * through directories that may be closed to the account.
 */
async function runInitdb(places: Places, options: Initdb): Promise<void> {
  const { binaries, account, draft, passwordCopy, sync } = options;
  const launch = launchOn(account, draft);
  const isClosed = launch.cluster !== draft;
  const args = [
    `--pgdata=${launch.cluster}`,
    '--username=postgres',
    '--auth=scram-sha-256',
    `--pwfile=${isClosed ? '/proc/self/fd/3' : passwordCopy}`,
    '--encoding=UTF8',
    '--locale=C',
    // A kernel's huge pages that a container may not use end in a bus error (SIGBUS).
    '--set=huge_pages=off',
    '--no-instructions',
    ...(sync ? [] : ['--no-sync']),
  ];
  const naming = account === null && !hasUserName() ? namingLibrary() : null;
  const library = `${draft}.so`;
  const before = logSize(places);
  const log = openLog(places);
  const passwordFile = openSync(passwordCopy, 'r');
  try {
    if (naming) writeFileSync(library, naming, { mode: 0o600 });
    // By a relative name: blanks would divide the variable.
    const preload = naming ? { LD_PRELOAD: `../${path.basename(library)}` } : {};
    const child = spawn(binaries.initdb, args, {
      ...launch.spawn,
      env: { ...serverEnvironment(), ...preload },
      stdio: ['ignore', log, log, ...(isClosed ? [passwordFile] : [])],
    });
    await new Promise<void>((resolve, reject) => {
      const fail = (what: string, cause?: unknown) =>
        reject(failedProgram(places, `initdb ${what}`, tailOfLog(places, before), cause));
      child.on('error', (error) => fail(`could not run (${error.message})`, error));
      child.on('exit', (code, signal) => {
        if (code === 0) resolve();
        else fail(`failed (${signal ?? `status ${code}`})`);
      });
    });
  } finally {
    closeSync(log);
    closeSync(passwordFile);
    rmSync(library, REMOVE);
  }
}

function removeDrafts(places: Places): void {
  for (const name of readdirSync(places.root)) {
    if (!/^cluster\.[0-9a-f]+\.draft/.test(name)) continue;
    rmSync(path.join(places.root, name), REMOVE);
  }
}

/**
 * Without PG* (PGDATA, PGOPTIONS, ...), which would steer the server, and in a known locale. What comes
 * with a program goes before libraries of that name elsewhere (conda, Oracle).
 */
export function serverEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  const { LD_LIBRARY_PATH: others } = process.env;
  const libraries = others ? { LD_LIBRARY_PATH: `$ORIGIN/../lib:${others}` } : {};
  return { ...Object.fromEntries(entries), ...libraries, LC_ALL: 'C', TZ: 'UTC' };
}
