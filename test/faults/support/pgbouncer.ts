import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chooseAccount } from '../../../src/db/embedded/account.js';
import { pickFreePort } from '../../../src/db/embedded/postmaster.js';
import type { Pooler, PoolerOptions } from '../../support/pooler/transactionPooler.js';
import { urlThroughPooler } from '../../support/socketUrl.js';
import { findPgbouncer } from './findPgbouncer.js';

/** pgbouncer itself, by SIGKILL where it crashes. @throws where it is not, with the remedy */
export async function startPgbouncer(databaseUrl: string, options: PoolerOptions): Promise<Pooler> {
  const program = findPgbouncer();
  if (program === null) {
    throw new Error(
      'pgbouncer is missing: apt-get install pgbouncer, or name it in PGBOUNCER_PATH',
    );
  }
  const target = new URL(databaseUrl);
  const port = await pickFreePort();
  const directory = mkdtempSync(path.join(tmpdir(), 'microdollar-pooler-'));
  const config = path.join(directory, 'pgbouncer.ini');
  writeFileSync(config, configOf(target, port, options));
  // It refuses to run as root, as PostgreSQL does.
  const account = chooseAccount(path.join(directory, 'none'));
  if (account) for (const each of [directory, config]) chownSync(each, account.uid, account.gid);

  let child: ChildProcess;
  const launch = async () => {
    const identity = account ? { uid: account.uid, gid: account.gid } : {};
    child = spawn(program, [config], { ...identity, stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr?.on('data', (data) => {
      log += data;
    });
    while (!(await answers(port))) {
      if (child.exitCode !== null) throw new Error(`pgbouncer ended: ${log}`);
      await sleep(20);
    }
  };
  const end = async () => {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  await launch();
  return {
    url: urlThroughPooler(databaseUrl, port),
    async crash() {
      await end();
      await launch();
    },
    async stop() {
      await end();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function configOf(target: URL, port: number, options: PoolerOptions): string {
  const password = target.password ? ` password=${decodeURIComponent(target.password)}` : '';
  return `[databases]
* = host=${target.hostname} port=${target.port} user=${target.username}${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = ${options.poolSize}
server_login_retry = 0.1
ignore_startup_parameters = ${options.ignoredParameters ?? ''}
`;
}

async function answers(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
