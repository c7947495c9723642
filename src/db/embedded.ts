import { existsSync, realpathSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { LedgerError } from '../errors.js';
import { chooseAccount } from './embedded/account.js';
import { findBinaries } from './embedded/binaries.js';
import {
  createCluster,
  createRoot,
  type Places,
  placesOf,
  quoteLog,
  readPassword,
} from './embedded/cluster.js';
import { type Member, Members, StartLock } from './embedded/membership.js';
import * as postmaster from './embedded/postmaster.js';
import { isRunning } from './embedded/processes.js';

export interface EmbeddedPostgresOptions {
  /** Will hold `postgres/`: cluster, password, server log. Made if need be. */
  dataDir: string;
  /** Default: a free one. Ignored when the server of this directory runs already. */
  port?: number;
  /** False: the cluster is removed when its last user stops. Default true. */
  persistent?: boolean;
  /** PostgreSQL settings; they win over ours. */
  settings?: Readonly<Record<string, string>>;
  /** Created if missing. Default `microdollar`. */
  database?: string;
  /** Default 60,000 ms; covers crash recovery. */
  startTimeoutMs?: number;
}

export interface EmbeddedPostgres {
  /** With the password: not for logs. */
  url: string;
  port: number;
  dataDir: string;
  /** Of the server. */
  pid: number;
  /** Whether the server ran already: another process uses it, or one was killed and left it. */
  joined: boolean;
  /** Settles when the server is gone; `expected` when `stop` was called here. */
  exited: Promise<{ expected: boolean; reason: string }>;
  /** Ends our use; the last user of the directory stops the server. May be called twice. */
  stop(): Promise<void>;
}

/** Durable (fsync and synchronous_commit stay on), for a small machine. */
const DEFAULT_SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_buffers: '128MB',
  max_connections: '100',
  max_wal_size: '2GB',
  jit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_checkpoints: 'off',
  // Error details quote key values: personal data has no place in a log.
  log_error_verbosity: 'terse',
};

const POLL_MS = 20;
const WATCH_MS = 1_000;

/**
 * A real PostgreSQL server of this process's own, on 127.0.0.1. Processes with the same data
 * directory share one server; the last one out stops it. What a killed process left running is
 * adopted; what it left half done is replaced.
 *
 * @throws LedgerError `unavailable`, naming the directory, who holds it, and the remedy
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const asked = placesOf(options.dataDir);
  createRoot(asked);
  // One name for one directory: processes are recognized by it.
  const places = placesOf(realpathSync(options.dataDir));
  const deadline = Date.now() + (options.startTimeoutMs ?? 60_000);
  const { members, lock } = openMembership(places);
  const release = await lock.acquire(deadline);
  if (!release) throw heldBy(places, lock.holder()?.pid, 'is starting or stopping its server');
  try {
    const running = await ensureRunning(places, members, options, deadline);
    const member = members.join();
    try {
      const database = options.database ?? 'microdollar';
      const url = await createDatabase(places, running.port, database);
      return new EmbeddedServer(places, members, lock, member, options, { ...running, url });
    } catch (error) {
      member.leave();
      if (members.list().length === 0) await postmaster.stopPostmaster(running.pid, places);
      throw error;
    }
  } finally {
    release();
  }
}

function openMembership(places: Places): { members: Members; lock: StartLock } {
  try {
    return { members: new Members(places.members), lock: new StartLock(places.lock) };
  } catch (cause) {
    throw new LedgerError('unavailable', `cannot use ${places.root}: ${String(cause)}`, { cause });
  }
}

interface Running {
  pid: number;
  port: number;
  joined: boolean;
}

/** Under the start lock: finds the directory's server or starts it, and sees it answer. */
async function ensureRunning(
  places: Places,
  members: Members,
  options: EmbeddedPostgresOptions,
  deadlineMs: number,
): Promise<Running> {
  const settings = Object.entries({ ...DEFAULT_SETTINGS, ...options.settings }).map(
    ([name, value]) => `${name}=${value}`,
  );
  for (;;) {
    const found = postmaster.findPostmaster(places);
    const users = members.list();
    if (found) {
      if (users.length === 0 && !sameSettings(found.pid, settings)) {
        // Left behind by another version or purpose; perhaps not even durable.
        await postmaster.stopPostmaster(found.pid, places);
        continue;
      }
      if (found.status === 'ready') {
        const answer = await postmaster.probe(places, found.port, readPassword(places));
        if (answer === 'ours') return { pid: found.pid, port: found.port, joined: true };
        if (answer === 'foreign') {
          throw heldBy(places, found.pid, `is its server, but refuses ${places.password}`);
        }
      }
      if (Date.now() > deadlineMs) {
        if (users.length > 0) throw heldBy(places, users[0]?.pid, 'has a server that is silent');
        await postmaster.quitPostmaster(found.pid, places);
        continue;
      }
    } else {
      const foreign = members.foreign();
      if (!foreign) return await launch(places, options, settings, deadlineMs);
      if (Date.now() > deadlineMs)
        throw heldBy(places, foreign.pid, 'of another container or host');
    }
    await sleep(100);
  }
}

function sameSettings(pid: number, settings: readonly string[]): boolean {
  const running = postmaster.settingsOf(pid);
  return running.length === 0 || running.join('\n') === settings.join('\n');
}

async function launch(
  places: Places,
  options: EmbeddedPostgresOptions,
  settings: readonly string[],
  deadlineMs: number,
): Promise<Running> {
  const binaries = findBinaries();
  const account = chooseAccount(places.cluster);
  await createCluster(places, binaries, account, options.settings?.fsync !== 'off');
  const password = readPassword(places);
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await postmaster.pickFreePort());
    const child = postmaster.launchPostmaster(places, binaries, account, port, settings);
    let ended: string | null = null;
    child.on('error', (error) => {
      ended = error.message;
    });
    child.on('exit', (code, signal) => {
      ended = signal ?? `status ${code}`;
    });
    while (ended === null) {
      const found = postmaster.findPostmaster(places);
      if (
        found?.status === 'ready' &&
        found.pid === child.pid &&
        (await postmaster.probe(places, port, password)) === 'ours'
      ) {
        return { pid: found.pid, port, joined: false };
      }
      if (Date.now() > deadlineMs) {
        if (child.pid) await postmaster.quitPostmaster(child.pid, places);
        throw failedStart(places, 'was not ready in time');
      }
      await sleep(POLL_MS);
    }
    const log = quoteLog(places, 12);
    // Someone took the free port; or backends of a killed server are about to notice.
    const transient =
      (options.port === undefined && /could not bind|Address already in use/.test(log)) ||
      /pre-existing shared memory block/.test(log);
    if (!transient || attempt === 10) throw failedStart(places, `ended (${ended})`);
    await sleep(100 * attempt);
  }
}

async function createDatabase(places: Places, port: number, database: string): Promise<string> {
  const urlOf = (name: string) =>
    `postgres://postgres:${readPassword(places)}@127.0.0.1:${port}/${encodeURIComponent(name)}`;
  const client = new pg.Client({ connectionString: urlOf('postgres') });
  client.on('error', () => {});
  try {
    await client.connect();
    const known = await client.query('select from pg_database where datname = $1', [database]);
    if (known.rowCount === 0) {
      await client.query(`create database ${pg.escapeIdentifier(database)}`);
    }
    return urlOf(database);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw failedStart(places, `answered, but database ${database} is not usable (${reason})`);
  } finally {
    await client.end().catch(() => {});
  }
}

/** Servers of this process that its exit must not leave behind. */
const atExit = new Set<() => void>();
let exitHandled = false;

function onExit(leave: () => void): void {
  atExit.add(leave);
  if (exitHandled) return;
  exitHandled = true;
  process.on('exit', () => {
    for (const leaveNow of atExit) leaveNow();
  });
}

class EmbeddedServer implements EmbeddedPostgres {
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly pid: number;
  readonly joined: boolean;
  readonly exited: Promise<{ expected: boolean; reason: string }>;
  readonly #places: Places;
  readonly #members: Members;
  readonly #lock: StartLock;
  readonly #member: Member;
  readonly #persistent: boolean;
  readonly #leaveAtExit = () => this.#leaveNow();
  #settleExited: (result: { expected: boolean; reason: string }) => void = () => {};
  #stopping: Promise<void> | null = null;

  constructor(
    places: Places,
    members: Members,
    lock: StartLock,
    member: Member,
    options: EmbeddedPostgresOptions,
    running: Running & { url: string },
  ) {
    this.#places = places;
    this.#members = members;
    this.#lock = lock;
    this.#member = member;
    this.#persistent = options.persistent ?? true;
    this.url = running.url;
    this.port = running.port;
    this.pid = running.pid;
    this.joined = running.joined;
    this.dataDir = options.dataDir;
    this.exited = new Promise((resolve) => {
      this.#settleExited = resolve;
    });
    this.#watch();
    onExit(this.#leaveAtExit);
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    const release = await this.#lock.acquire(Date.now() + 60_000);
    try {
      this.#member.leave();
      atExit.delete(this.#leaveAtExit);
      if (this.#members.list().length === 0) {
        await postmaster.stopPostmaster(this.pid, this.#places);
        if (!this.#persistent) {
          rmSync(this.#places.root, { recursive: true, force: true, maxRetries: 3 });
        }
      }
    } finally {
      if (existsSync(this.#places.lock)) release?.();
    }
    this.#settleExited({ expected: true, reason: 'stopped' });
  }

  /** At process exit nothing can be awaited: the server finishes its shutdown by itself. */
  #leaveNow(): void {
    this.#member.leave();
    const release = this.#lock.tryAcquire();
    // Held: someone is about to join, or to see that nobody is left.
    if (!release) return;
    if (this.#members.list().length === 0) postmaster.signalStop(this.pid, this.#places);
    release();
  }

  /** A look a second: works for an adopted server too, which is not our child. */
  #watch(): void {
    const timer = setInterval(() => {
      if (isRunning(this.pid)) return;
      clearInterval(timer);
      this.#settleExited({
        expected: this.#stopping !== null,
        reason: `PostgreSQL ${this.pid} is gone${quoteLog(this.#places)}`,
      });
    }, WATCH_MS);
    timer.unref();
  }
}

function heldBy(places: Places, pid: number | undefined, what: string): LedgerError {
  return new LedgerError(
    'unavailable',
    `${places.root} is in use: process ${pid ?? 'unknown'} ${what}; ` +
      'stop that process, choose another MICRODOLLAR_DATA_DIR, or set DATABASE_URL',
    { details: { directory: places.root, pid: pid ?? null } },
  );
}

function failedStart(places: Places, what: string): LedgerError {
  return new LedgerError('unavailable', `embedded PostgreSQL ${what}${quoteLog(places)}`, {
    details: { directory: places.root },
  });
}
