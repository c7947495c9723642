import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, realpathSync, type Stats } from 'node:fs';
import { chmod, cp, lstat, mkdtemp, readdir, realpath, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { restoreSymlinks } from './symlinks.js';

/**
 * A copy of PostgreSQL's programs that another user can run, where the installed ones lie in
 * directories closed to him. It is made beside its place and moved there whole, so that several
 * processes may do it at once; its name has its content's digest, and each use checks content,
 * owner and modes anew: what a cleaner of temporary files or a full disk left is made again.
 */
export interface Publication {
  /** The package: a directory that holds `native/`. */
  from: string;
  version: string;
  /** Holds the copy; made by us or by the system, in any case writable by nobody else. */
  place: string;
  /** Tries the copy before it gets its name; throws when it cannot be used. */
  attempt(dir: string): Promise<void>;
}

const PREFIX = 'microdollar-postgresql';
/** A draft as old as this was left by a process that is gone. */
const ABANDONED_MS = 10 * 60_000;

/** Where every user may read: kept over restarts where that is possible. */
export function publicPlaces(): string[] {
  return [...new Set(['/var/cache', '/var/tmp', tmpdir()])];
}

/**
 * Nobody else may replace what lies in a public place: on the way are only root's directories or
 * ours, and where others may write, the sticky bit keeps ours.
 */
export function requireSafe(place: string): void {
  for (let at = realpathSync(place); ; at = path.dirname(at)) {
    const { uid, mode } = lstatSync(at);
    const isTrusted = uid === 0 || uid === process.geteuid?.();
    const isSticky = (mode & 0o1000) !== 0;
    if (!isTrusted || ((mode & 0o022) !== 0 && !isSticky)) {
      throw new Error(`others may write in ${at}`);
    }
    if (at === path.dirname(at)) return;
  }
}

/** The copy's directory, with `native/` in it. @throws Error that says why there is none */
export async function publishPrograms({
  from,
  version,
  place,
  attempt,
}: Publication): Promise<string> {
  const home = await realpath(place);
  const digest = digestOf(from);
  const target = path.join(home, `${PREFIX}-${version}-${digest.slice(0, 16)}`);
  if (isIntact(target, digest)) {
    await attempt(target);
    return target;
  }
  await removeAbandoned(home);
  const draft = await mkdtemp(path.join(home, `${PREFIX}-draft-`));
  try {
    await copyReadable(from, draft);
    if (!isIntact(draft, digest)) throw new Error(`${from} changed while it was copied`);
    await attempt(draft);
    await moveInto(target, draft, digest);
    return target;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

/** Several may come at once: the first intact copy stays, a damaged one gives way. */
async function moveInto(target: string, draft: string, digest: string): Promise<void> {
  for (let attempts = 0; attempts < 5; attempts++) {
    try {
      await rename(draft, target);
      return;
    } catch (error) {
      if (!['EEXIST', 'ENOTEMPTY', 'ENOTDIR'].includes(codeOf(error))) throw error;
    }
    if (isIntact(target, digest)) return;
    const aside = `${draft}.replaced`;
    await rename(target, aside).catch((error) => {
      if (codeOf(error) !== 'ENOENT') throw error;
    });
    await rm(aside, { recursive: true, force: true });
  }
  throw new Error(`${target} is damaged again and again`);
}

/** Whatever the umask and the modes of the installed files are. */
async function copyReadable(from: string, to: string): Promise<void> {
  await cp(path.join(from, 'native'), path.join(to, 'native'), {
    recursive: true,
    verbatimSymlinks: true,
  });
  await chmod(to, 0o755);
  for (const entry of await readdir(to, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    const isProgram = path.basename(entry.parentPath) === 'bin';
    await chmod(
      path.join(entry.parentPath, entry.name),
      entry.isDirectory() || isProgram ? 0o755 : 0o644,
    );
  }
  restoreSymlinks(to);
}

/** Every byte as installed, everything ours, and nothing that somebody else may write. */
function isIntact(dir: string, digest: string): boolean {
  try {
    for (const name of ['', ...readdirSync(dir, { recursive: true, encoding: 'utf8' })]) {
      if (!isOursAlone(lstatSync(path.join(dir, name)))) return false;
    }
    restoreSymlinks(dir);
    return digestOf(dir) === digest;
  } catch {
    return false;
  }
}

function isOursAlone(stat: Stats): boolean {
  if (stat.uid !== process.geteuid?.()) return false;
  return stat.isSymbolicLink() || (stat.mode & 0o022) === 0;
}

/**
 * SHA-256 over the regular files of `native/`: names and content. Synchronous: a thousand small
 * files take 80 ms so, and 450 ms one promise each.
 */
function digestOf(dir: string): string {
  const native = path.join(dir, 'native');
  const hash = createHash('sha256');
  for (const name of readdirSync(native, { recursive: true, encoding: 'utf8' }).sort()) {
    const file = path.join(native, name);
    if (!lstatSync(file).isFile()) continue;
    const content = readFileSync(file);
    hash.update(`${name}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

async function removeAbandoned(home: string): Promise<void> {
  for (const name of await readdir(home)) {
    if (!name.startsWith(`${PREFIX}-draft-`)) continue;
    const draft = path.join(home, name);
    const stat = await lstat(draft).catch(() => null);
    if (stat === null || Date.now() - stat.mtimeMs < ABANDONED_MS) continue;
    await rm(draft, { recursive: true, force: true }).catch(() => {});
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}
