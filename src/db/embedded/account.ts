import { readdirSync, readFileSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import path from 'node:path';
import { LedgerError } from '../../errors.js';

/** The unprivileged account that runs the server when we are root; PostgreSQL refuses root. */
export interface Account {
  uid: number;
  gid: number;
  name: string;
}

/** How PostgreSQL's programs are started on a cluster. */
export interface Launch {
  /** The cluster directory by a name that the program can use. */
  cluster: string;
  spawn: { cwd: string; uid?: number; gid?: number };
}

/**
 * Null when we are not root: the server then runs as we do. An existing cluster keeps the
 * account that owns it.
 */
export function chooseAccount(clusterDir: string): Account | null {
  if (process.getuid?.() !== 0) return null;
  const owner = statSync(clusterDir, { throwIfNoEntry: false });
  if (owner && owner.uid !== 0) {
    return { uid: owner.uid, gid: owner.gid, name: `uid ${owner.uid}` };
  }
  const account = findAccount('postgres') ?? findAccount('nobody');
  if (account) return account;
  throw new LedgerError(
    'unavailable',
    'PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as: ' +
      'create one, run as another user, or set DATABASE_URL',
  );
}

function findAccount(name: string): Account | null {
  try {
    const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(':');
    if (!fields) return null;
    // Negative where nobody is -2; ids are unsigned.
    return { uid: Number(fields[2]) >>> 0, gid: Number(fields[3]) >>> 0, name };
  } catch {
    return null;
  }
}

/** Whether the user we run as is in the system's list of users; `docker run --user` need not be. */
export function hasUserName(): boolean {
  try {
    userInfo();
    return true;
  } catch {
    return false;
  }
}

/**
 * The account may not enter the directories above the cluster (root's home, a mkdtemp of root's), and
 * they are opened to nobody. On Linux it need not: it is started in the cluster directory, which
 * is its own, and knows it by the name that the kernel gives to every process's own directory.
 * PostgreSQL's processes all stay in the cluster, so the name holds for each of them.
 */
export function launchOn(account: Account | null, clusterDir: string): Launch {
  if (!account) return { cluster: clusterDir, spawn: { cwd: clusterDir } };
  const { uid, gid } = account;
  const spawn = { cwd: clusterDir, uid, gid };
  if (process.platform === 'linux') return { cluster: '/proc/self/cwd', spawn };
  const closed = closedDirectory(account, path.dirname(clusterDir));
  if (!closed) return { cluster: clusterDir, spawn };
  throw new LedgerError(
    'unavailable',
    `the server runs as ${account.name}, which cannot enter ${closed}: allow it (chmod o+x), ` +
      'choose another MICRODOLLAR_DATA_DIR, run as an ordinary user, or set DATABASE_URL',
    { details: { directory: closed, uid } },
  );
}

/** The topmost directory on the way to `dir`, itself included, that the account cannot enter. */
export function closedDirectory(account: Account, dir: string): string | null {
  const parent = path.dirname(dir);
  const above = parent === dir ? null : closedDirectory(account, parent);
  if (above) return above;
  return isPermitted(account, dir, EXECUTE) ? null : dir;
}

/** The first entry in `dir` that the account cannot read, or for a directory list and enter. */
export function unreadableEntry(account: Account, dir: string): string | null {
  if (!isPermitted(account, dir, READ | EXECUTE)) return dir;
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const file = path.join(dir, entry.name);
    const found = entry.isDirectory()
      ? unreadableEntry(account, file)
      : entry.isFile() && !isPermitted(account, file, READ)
        ? file
        : null;
    if (found) return found;
  }
  return null;
}

const READ = 0o4;
const EXECUTE = 0o1;

/** By the mode alone: what else a system may forbid shows when the program is run. */
function isPermitted({ uid, gid }: Account, file: string, wanted: number): boolean {
  const stat = statSync(file);
  let shift = 0;
  if (stat.uid === uid) shift = 6;
  else if (stat.gid === gid) shift = 3;
  return ((stat.mode >> shift) & wanted) === wanted;
}
