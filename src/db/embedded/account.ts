import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { LedgerError } from '../../errors.js';

/** The unprivileged account that runs the server when we are root; PostgreSQL refuses root. */
export interface Account {
  uid: number;
  gid: number;
  name: string;
}

/** How to start a program as the account: `setpriv ... program` or uid and gid of the spawn. */
export interface Launch {
  command: string;
  args: string[];
  uid?: number;
  gid?: number;
}

/** Bits of capabilities(7) that let a process enter directories closed to its uid. */
const TRAVERSAL_CAPABILITIES = [
  { name: 'dac_read_search', bit: 2n },
  { name: 'dac_override', bit: 1n },
] as const;

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

/**
 * The account needs to enter every directory above the cluster and the binaries. Where it may
 * not (/root, a mkdtemp of root's), setpriv gives it that one capability; nothing is made
 * readable for others.
 */
export function launchAs(
  account: Account | null,
  program: string,
  args: string[],
  clusterDir: string,
): Launch {
  if (!account) return { command: program, args };
  const closed =
    closedDirectory(account, path.dirname(clusterDir)) ??
    closedDirectory(account, path.dirname(program));
  if (!closed) return { command: program, args, uid: account.uid, gid: account.gid };
  const capability = traversalCapability();
  if (!capability) {
    throw new LedgerError(
      'unavailable',
      `the server runs as ${account.name}, which cannot enter ${closed}: allow it ` +
        `(chmod o+x ${closed}), choose another MICRODOLLAR_DATA_DIR or install directory, ` +
        'install setpriv (util-linux), or set DATABASE_URL',
      { details: { directory: closed, uid: account.uid } },
    );
  }
  return {
    command: 'setpriv',
    args: [
      `--reuid=${account.uid}`,
      `--regid=${account.gid}`,
      '--clear-groups',
      `--inh-caps=+${capability}`,
      `--ambient-caps=+${capability}`,
      '--',
      program,
      ...args,
    ],
  };
}

/** The topmost directory on the way to `dir`, itself included, that the account cannot enter. */
export function closedDirectory(account: Account, dir: string): string | null {
  const parent = path.dirname(dir);
  const above = parent === dir ? null : closedDirectory(account, parent);
  if (above) return above;
  const stat = statSync(dir);
  let bit = 0o001;
  if (stat.uid === account.uid) bit = 0o100;
  else if (stat.gid === account.gid) bit = 0o010;
  return (stat.mode & bit) === 0 ? dir : null;
}

function traversalCapability(): string | null {
  try {
    execFileSync('setpriv', ['--version'], { stdio: 'ignore' });
    const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'));
    const mask = BigInt(`0x${effective?.[1] ?? '0'}`);
    return TRAVERSAL_CAPABILITIES.find(({ bit }) => (mask >> bit) & 1n)?.name ?? null;
  } catch {
    return null;
  }
}
