import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { chooseAccount } from './account.js';
import { doAtExit } from './atExit.js';
import { findBinaries } from './binaries.js';
import { createCluster, type Places, readPassword } from './cluster.js';
import { failedProgram, heldBy, recovering } from './failures.js';
import type { Members } from './membership.js';
import type { EmbeddedPostgresOptions } from './options.js';
import * as postmaster from './postmaster.js';
import { logSize, tailOfLog } from './serverLog.js';

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
  // PostgreSQL needs System V shared memory on Linux in any case; /dev/shm is small in
  // containers, or missing, and a parallel query fails where it does not fit.
  ...(process.platform === 'linux' ? { dynamic_shared_memory_type: 'sysv' } : {}),
};

export const START_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

export interface Running {
  pid: number;
  port: number;
  joined: boolean;
}

/** Under the start lock: finds the directory's server or starts it, and sees it answer. */
export async function ensureRunning(
  places: Places,
  members: Members,
  options: EmbeddedPostgresOptions,
): Promise<Running> {
  let deadlineMs = performance.now() + (options.startTimeoutMs ?? START_TIMEOUT_MS);
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
      if (performance.now() > deadlineMs) {
        if (users.length > 0) throw heldBy(places, users[0]?.pid, 'has a server that is silent');
        if (found.status === 'starting') throw recovering(places);
        await postmaster.quitPostmaster(found.pid, places);
        deadlineMs = performance.now() + START_TIMEOUT_MS;
        continue;
      }
    } else {
      const foreign = members.foreign();
      if (!foreign) return await launch(places, options, settings, deadlineMs);
      if (performance.now() > deadlineMs)
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
  const account = chooseAccount(places.cluster);
  const binaries = await findBinaries(account, places.programs);
  await postmaster.requireLoopback(places);
  await createCluster(places, binaries, account, options.settings?.fsync !== 'off');
  const password = readPassword(places);
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await postmaster.pickFreePort());
    const before = logSize(places);
    const child = postmaster.launchPostmaster(places, binaries, account, port, settings);
    const outcome = await awaitReady(places, child, { port, password, deadlineMs });
    if (outcome === 'ready') return { pid: child.pid ?? 0, port, joined: false };
    const said = tailOfLog(places, before);
    const log = said.join('\n');
    // Someone took the free port; or backends of a killed server are about to notice.
    const transient =
      (options.port === undefined && /could not bind|Address already in use/.test(log)) ||
      /pre-existing shared memory block/.test(log);
    if (!transient || attempt === 10) {
      throw failedProgram(places, `it ended (${outcome})`, said);
    }
    await sleep(100 * attempt);
  }
}

/** `ready`, or how the server ended. */
async function awaitReady(
  places: Places,
  child: ChildProcess,
  expected: { port: number; password: string; deadlineMs: number },
): Promise<string> {
  let ended: string | null = null;
  child.on('error', (error) => {
    ended = error.message;
  });
  child.on('exit', (code, signal) => {
    ended = signal ?? `status ${code}`;
  });
  const cancel = doAtExit(() => {
    if (child.pid) postmaster.signalStop(child.pid, places, 'fast');
  });
  try {
    while (ended === null) {
      const found = postmaster.findPostmaster(places);
      const isReady = found?.status === 'ready' && found.pid === child.pid;
      const { port, password } = expected;
      if (isReady && (await postmaster.probe(places, port, password)) === 'ours') return 'ready';
      // To stop it would only begin a long recovery anew; the next start adopts it, by its pid file.
      if (performance.now() > expected.deadlineMs && found) throw recovering(places);
      await sleep(POLL_MS);
    }
    return ended;
  } finally {
    cancel();
  }
}

export async function createDatabase(
  places: Places,
  port: number,
  database: string,
): Promise<string> {
  // Says that there is no TLS: a PGSSLMODE of the environment, meant for another server, would ask for it.
  const urlOf = (name: string) =>
    `postgres://postgres:${readPassword(places)}@127.0.0.1:${port}/${encodeURIComponent(name)}` +
    '?sslmode=disable';
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
    throw failedProgram(places, `database ${database} is not usable (${reason})`, [], cause);
  } finally {
    await client.end().catch(() => {});
  }
}
