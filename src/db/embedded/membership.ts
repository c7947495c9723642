import { randomBytes } from 'node:crypto';
import {
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectories } from '../../directories.js';
import {
  currentIdentity,
  isAlive,
  isLocal,
  isOfThisBoot,
  type ProcessIdentity,
} from './processes.js';

/**
 * Who uses a cluster, so that the last one out stops the server, and a lock around starting and
 * stopping it. Both are files that name a process; a file whose process is gone (SIGKILL, reboot)
 * is void. A process of another container or machine cannot be looked up: its file counts while
 * it is fresh, and members refresh theirs.
 */
const REFRESH_MS = 5_000;
const FOREIGN_FRESH_MS = 30_000;
/** Without a break in our looking, in which both may have been stopped. */
const STILL_MS = 2 * REFRESH_MS;
/** After a shorter one whoever lives is fresh all the same. */
const BREAK_MS = FOREIGN_FRESH_MS - STILL_MS;
const MAX_WATCHED = 1_000;

/** Readers see the old content or the new one, never half of it. */
function writeWhole(file: string, content: string): void {
  const draft = `${file}.${randomBytes(6).toString('hex')}.draft`;
  writeFileSync(draft, content, { mode: 0o644 });
  renameSync(draft, file);
}

function keepFresh(file: string): NodeJS.Timeout {
  const timer = setInterval(() => {
    try {
      utimesSync(file, new Date(), new Date());
    } catch {
      // Void or removed with its directory: nothing to keep.
    }
  }, REFRESH_MS);
  return timer.unref();
}

interface Watched {
  touchedMs: number;
  /** By our own monotonic clock: since when it stands still, and when we looked last. */
  sinceMs: number;
  lookedMs: number;
}

const watched = new Map<string, Watched>();

/**
 * Whether a process elsewhere has refreshed its file lately. A clock that was set, or a machine that
 * slept, makes a file look old whose process has not come to refresh it yet: it counts until we have seen
 * it stand still. Of an earlier boot nobody will.
 */
function isFresh(file: string, isOfThisBoot: boolean): boolean {
  const touchedMs = statSync(file).mtimeMs;
  const nowMs = performance.now();
  const before = watched.get(file);
  const isStill = before?.touchedMs === touchedMs && nowMs - before.lookedMs <= BREAK_MS;
  const sinceMs = isStill ? before.sinceMs : nowMs;
  if (watched.size >= MAX_WATCHED) watched.clear();
  watched.set(file, { touchedMs, sinceMs, lookedMs: nowMs });
  const ageMs = Date.now() - touchedMs;
  if (Math.abs(ageMs) < FOREIGN_FRESH_MS) return true;
  return (isOfThisBoot || ageMs < 0) && nowMs - sinceMs < STILL_MS;
}

/**
 * The process a file names, if it still counts.
 * @param isLook who looks once cannot see it stand still: what is old is void
 */
function holderOf(file: string, isLook = false): ProcessIdentity | null {
  try {
    const identity = JSON.parse(readFileSync(file, 'utf8')) as ProcessIdentity;
    if (!identity.pid) return null;
    const counts = isLocal(identity)
      ? isAlive(identity)
      : isFresh(file, !isLook && isOfThisBoot(identity));
    return counts ? identity : null;
  } catch {
    return null;
  }
}

export interface Member {
  leave(): void;
}

export class Members {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  join(): Member {
    makeDirectories(this.#dir);
    const file = path.join(this.#dir, `${process.pid}-${randomBytes(6).toString('hex')}`);
    writeWhole(file, JSON.stringify(currentIdentity()));
    const refresh = keepFresh(file);
    return {
      leave: () => {
        clearInterval(refresh);
        rmSync(file, { force: true });
      },
    };
  }

  /** Live members; files of others are removed on the way. */
  list(): ProcessIdentity[] {
    const live: ProcessIdentity[] = [];
    for (const name of existsSync(this.#dir) ? readdirSync(this.#dir) : []) {
      if (name.endsWith('.draft')) continue;
      const file = path.join(this.#dir, name);
      const holder = holderOf(file);
      if (holder) live.push(holder);
      else rmSync(file, { force: true });
    }
    return live;
  }

  /** A live member whose pid means nothing here: another container or machine. */
  foreign(): ProcessIdentity | null {
    return this.list().find((member) => !isLocal(member)) ?? null;
  }
}

/**
 * A lock as numbered files; the highest number rules. It is taken over, from a holder that is
 * gone or has released it, by creating the next number: link(2) lets one succeed. The ruling
 * file is never removed, so a number is never given twice to two who think they rule: one who
 * comes late with an old number finds a higher one right after, and withdraws.
 */
export class StartLock {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    makeDirectories(dir);
  }

  /** Releases; null when someone else holds it. Synchronous, for exit handlers. */
  tryAcquire(): (() => void) | null {
    try {
      return this.#tryAcquire();
    } catch (error) {
      // Discarded with its directory, by who held it last: made anew, and tried again.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      makeDirectories(this.#dir);
      return null;
    }
  }

  #tryAcquire(): (() => void) | null {
    const ruling = Math.max(0, ...this.#numbers());
    if (ruling > 0 && holderOf(this.#file(ruling))) return null;
    const mine = this.#file(ruling + 1);
    const draft = path.join(this.#dir, `${randomBytes(6).toString('hex')}.draft`);
    const self = JSON.stringify(currentIdentity());
    writeFileSync(draft, self, { mode: 0o644 });
    try {
      linkSync(draft, mine);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null;
      throw error;
    } finally {
      rmSync(draft, { force: true });
    }
    const numbers = this.#numbers();
    if (Math.max(...numbers) > ruling + 1) {
      rmSync(mine, { force: true });
      return null;
    }
    for (const number of numbers) {
      if (number <= ruling) rmSync(this.#file(number), { force: true });
    }
    const refresh = keepFresh(mine);
    return () => {
      clearInterval(refresh);
      // Void, which takes no room on a full disk. Gone with who took it over, or with a cluster that is
      // not persistent, whose next one may have given its number to another.
      if (existsSync(mine) && readFileSync(mine, 'utf8') === self) truncateSync(mine);
    };
  }

  /** Null when it is still held at the deadline (ms of `performance.now()`). */
  async acquire(deadlineMs: number): Promise<(() => void) | null> {
    for (;;) {
      const release = this.tryAcquire();
      if (release || performance.now() > deadlineMs) return release;
      await sleep(50);
    }
  }

  /** To be told; it is not taken over for that. */
  holder(): ProcessIdentity | null {
    const ruling = Math.max(0, ...this.#numbers());
    return ruling === 0 ? null : holderOf(this.#file(ruling), true);
  }

  #file(number: number): string {
    return path.join(this.#dir, String(number));
  }

  #numbers(): number[] {
    return readdirSync(this.#dir)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  }
}
