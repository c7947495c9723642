import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { LedgerError } from '../../errors.js';
import { type Account, launchAs } from './account.js';
import type { Binaries } from './binaries.js';

const LOG_MAX_BYTES = 10 * 1024 * 1024;

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
  };
}

export function createRoot(places: Places): void {
  try {
    mkdirSync(places.root, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw new LedgerError('unavailable', `cannot create ${places.root}: ${String(cause)}`, {
      cause,
    });
  }
}

export function readPassword(places: Places): string {
  try {
    return readFileSync(places.password, 'utf8').trim();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') {
      const remedy = `bring it back, or remove ${places.root} with all its data`;
      throw new LedgerError('unavailable', `${places.password} is missing: ${remedy}`, { cause });
    }
    throw ownedByAnother(places, cause);
  }
}

/** The files of a data directory belong to the user who made it. */
export function ownedByAnother(places: Places, cause: unknown): LedgerError {
  const uid = statSync(places.root).uid;
  return new LedgerError(
    'unavailable',
    `${places.root} was set up by uid ${uid}: run as that user, ` +
      'choose another MICRODOLLAR_DATA_DIR, or set DATABASE_URL',
    { cause, details: { directory: places.root, uid } },
  );
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
  if (existsSync(path.join(places.cluster, 'PG_VERSION'))) return;
  removeDrafts(places);
  const draft = path.join(places.root, `cluster.${randomBytes(6).toString('hex')}.draft`);
  const passwordCopy = `${draft}.password`;
  const password = randomBytes(24).toString('hex');
  writeFileSync(places.password, `${password}\n`, { mode: 0o600 });
  writeFileSync(passwordCopy, `${password}\n`, { mode: 0o600 });
  mkdirSync(draft, { mode: 0o700 });
  if (account) {
    chownSync(draft, account.uid, account.gid);
    chownSync(passwordCopy, account.uid, account.gid);
  }
  try {
    const args = [
      `--pgdata=${draft}`,
      '--username=postgres',
      '--auth=scram-sha-256',
      `--pwfile=${passwordCopy}`,
      '--encoding=UTF8',
      '--locale=C',
      '--no-instructions',
      ...(sync ? [] : ['--no-sync']),
    ];
    await runInitdb(launchAs(account, binaries.initdb, args, draft), places);
    renameSync(draft, places.cluster);
  } finally {
    rmSync(passwordCopy, { force: true });
    rmSync(draft, { recursive: true, force: true });
  }
}

function runInitdb(launch: ReturnType<typeof launchAs>, places: Places): Promise<void> {
  return new Promise((resolve, reject) => {
    const { command, args, ...identity } = launch;
    const log = openLog(places);
    const child = spawn(command, args, {
      ...identity,
      cwd: places.root,
      env: serverEnvironment(),
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    const fail = (what: string, cause?: unknown) => {
      const message = `initdb ${what} in ${places.root}${quoteLog(places)}`;
      reject(new LedgerError('unavailable', message, { cause }));
    };
    child.on('error', (error) => fail(`could not run (${error.message})`, error));
    child.on('exit', (code, signal) => {
      if (code === 0) resolve();
      else fail(`failed (${signal ?? `status ${code}`})`);
    });
  });
}

function removeDrafts(places: Places): void {
  for (const name of readdirSync(places.root)) {
    if (!/^cluster\.[0-9a-f]+\.draft/.test(name)) continue;
    rmSync(path.join(places.root, name), { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Without PG* (PGDATA, PGOPTIONS, ...), which would steer the server, and in a known locale. */
export function serverEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  return { ...Object.fromEntries(entries), LC_ALL: 'C', TZ: 'UTC' };
}

/** The server log, for appending; a long one is set aside first. */
export function openLog(places: Places): number {
  const stat = statSync(places.log, { throwIfNoEntry: false });
  if (stat && stat.size > LOG_MAX_BYTES) renameSync(places.log, `${places.log}.1`);
  return openSync(places.log, 'a', 0o600);
}

/** The log's last lines, to end an error message with. */
export function quoteLog(places: Places, lines = 6): string {
  try {
    const file = openSync(places.log, 'r');
    try {
      const size = fstatSync(file).size;
      const tail = Buffer.alloc(Math.min(size, 4096));
      readSync(file, tail, 0, tail.length, size - tail.length);
      const last = tail.toString('utf8').trimEnd().split('\n').slice(-lines);
      return `; end of ${places.log}:\n${last.join('\n')}`;
    } finally {
      closeSync(file);
    }
  } catch {
    return '';
  }
}
