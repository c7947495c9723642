import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import { placesOf } from '../../src/db/embedded/cluster.js';
import { isStarting } from '../../src/db/embedded/failures.js';
import { StartLock } from '../../src/db/embedded/membership.js';
import { findPostmaster, quitPostmaster, waitUntilGone } from '../../src/db/embedded/postmaster.js';
import { currentIdentity, isRunning } from '../../src/db/embedded/processes.js';
import { restoreSymlinks } from '../../src/db/embedded/symlinks.js';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.js';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import { type Holder, holdEmbedded } from '../support/embeddedHolder.js';

const isRoot = process.getuid?.() === 0;

let dataDir: string;
const servers: EmbeddedPostgres[] = [];
const holders: Holder[] = [];

async function start(options: { settings?: Record<string, string>; startTimeoutMs?: number } = {}) {
  const server = await startEmbeddedPostgres({ dataDir, ...options });
  servers.push(server);
  return server;
}

async function hold(...args: Parameters<typeof holdEmbedded>) {
  const holder = await holdEmbedded(...args);
  holders.push(holder);
  return holder;
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

beforeEach(() => {
  // Mode 0700 and ours: where we are root, the server's account cannot enter it.
  dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-test-'));
});

/** A cluster that was made and stopped before: spares the test initdb. */
function reuseCluster(): void {
  copyMadeCluster(dataDir);
}

afterEach(async () => {
  for (const holder of holders.splice(0)) await holder.kill();
  for (const server of servers.splice(0)) await server.stop();
  const places = placesOf(dataDir);
  const left = findPostmaster(places);
  if (left) await quitPostmaster(left.pid, places);
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
});

describe('a server of its own', () => {
  it('is durable, never root, answers on 127.0.0.1 only, and only with the password', async () => {
    const server = await start();
    const settings = await query(
      server.url,
      `select name, setting from pg_settings where name in ('fsync', 'listen_addresses',
        'synchronous_commit', 'unix_socket_directories', 'server_encoding', 'jit',
        'data_checksums', 'huge_pages')`,
    );
    expect(Object.fromEntries(settings.map(({ name, setting }) => [name, setting]))).toEqual({
      fsync: 'on',
      synchronous_commit: 'on',
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      server_encoding: 'UTF8',
      jit: 'off',
      data_checksums: 'on',
      huge_pages: 'off',
    });
    expect(statSync(placesOf(dataDir).password).mode & 0o777).toBe(0o600);
    if (isRoot) expect(statSync(placesOf(dataDir).cluster).uid).not.toBe(0);
    const wrong = new URL(server.url);
    wrong.password = 'wrong';
    await expect(query(wrong.href, 'select 1')).rejects.toMatchObject({ code: '28P01' });
    wrong.password = '';
    await expect(query(wrong.href, 'select 1')).rejects.toThrow();
  });

  it('keeps its data from one start to the next, and is gone after stop', async () => {
    reuseCluster();
    const first = await start();
    await query(first.url, 'create table kept as select 42 as answer');
    await first.stop();
    expect(isRunning(first.pid)).toBe(false);
    expect(await first.exited).toMatchObject({ expected: true });
    const second = await start();
    expect(second.joined).toBe(false);
    expect(await query(second.url, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  it('takes other settings at the next start', async () => {
    reuseCluster();
    await (await start()).stop();
    const server = await start({ settings: { work_mem: '7MB' } });
    expect(await query(server.url, 'show work_mem')).toEqual([{ work_mem: '7MB' }]);
  });

  it('says why it does not start, in the words of its log', async () => {
    reuseCluster();
    const failure = start({ settings: { shared_buffers: 'plenty' } });
    await expect(failure).rejects.toMatchObject({ code: 'unavailable' });
    await expect(failure).rejects.toThrow(/shared_buffers.*"plenty"/s);
    expect((await start()).joined).toBe(false);
  });

  it('leaves nothing behind when it is not persistent', async () => {
    reuseCluster();
    const server = await startEmbeddedPostgres({ dataDir, persistent: false });
    servers.push(server);
    await server.stop();
    expect(statSync(placesOf(dataDir).root, { throwIfNoEntry: false })).toBeUndefined();
  });

  it.runIf(isRoot)('tells an ordinary user whose directory it is', async () => {
    reuseCluster();
    chmodSync(dataDir, 0o755);
    const { said } = await hold(dataDir, { uid: 65534, gid: 65534 });
    expect(said.code).toBe('unavailable');
    expect(said.message).toContain('was set up by uid 0');
  });

  it.runIf(isRoot)('runs as an ordinary user too', async () => {
    chmodSync(dataDir, 0o777);
    const holder = await hold(dataDir, { uid: 65534, gid: 65534 });
    expect(await query(holder.said.url ?? '', 'select 1 as one')).toEqual([{ one: 1 }]);
    await holder.end('stop');
    // And afterwards as root, on the same cluster.
    const server = await start();
    expect(statSync(placesOf(dataDir).cluster).uid).toBe(65534);
    expect(await query(server.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });
});

describe('processes that share a data directory', () => {
  it('share one server; the last one out stops it', async () => {
    reuseCluster();
    const mine = await start();
    const other = await hold(dataDir);
    expect(other.said).toMatchObject({ pid: mine.pid, joined: true });
    await mine.stop();
    expect(await query(other.said.url ?? '', 'select 1 as one')).toEqual([{ one: 1 }]);
    await other.end('stop');
    expect(isRunning(mine.pid)).toBe(false);
  });

  it('start one server when they start at once', async () => {
    const all = await Promise.all([hold(dataDir), hold(dataDir), hold(dataDir), start()]);
    const pids = all.map((one) => ('said' in one ? one.said.pid : one.pid));
    expect(new Set(pids).size).toBe(1);
    expect(all.filter((one) => !('said' in one ? one.said.joined : one.joined))).toHaveLength(1);
  });

  it('are told who holds the directory when it cannot be shared', async () => {
    reuseCluster();
    const release = new StartLock(placesOf(dataDir).lock).tryAcquire();
    const refused = await hold(dataDir, {}, 300);
    expect(refused.said.code).toBe('unavailable');
    expect(refused.said.message).toContain(placesOf(dataDir).root);
    expect(refused.said.message).toContain(`process ${process.pid}`);
    expect(refused.said.message).toContain('DATABASE_URL');
    release?.();
    expect((await start()).joined).toBe(false);
  });
});

describe('the server and the end of its process', () => {
  beforeEach(reuseCluster);

  for (const word of ['exit', 'throw'] as const) {
    it(`does not outlive a process that ends by ${word} without stop`, async () => {
      const holder = await hold(dataDir);
      await holder.end(word);
      expect(await waitUntilGone(holder.said.pid ?? 0, 30_000)).toBe(true);
    });
  }

  it('is stopped by the last one out even if someone else had to start it again', async () => {
    const mine = await start();
    process.kill(mine.pid, 'SIGQUIT');
    await mine.exited;
    const other = await hold(dataDir);
    expect(other.said.joined).toBe(false);
    await other.end('stop');
    expect(isRunning(other.said.pid ?? 0)).toBe(true);
    await mine.stop();
    expect(isRunning(other.said.pid ?? 0)).toBe(false);
  });

  it('can be started at once after a process that ended without stop', async () => {
    const holder = await hold(dataDir);
    await query(holder.said.url ?? '', 'create table kept as select 1 as one');
    await holder.end('exit');
    expect(await query((await start()).url, 'select one from kept')).toEqual([{ one: 1 }]);
  });

  it('is adopted when its process was killed', async () => {
    const holder = await hold(dataDir);
    await query(holder.said.url ?? '', 'create table kept as select 1 as one');
    await holder.kill();
    const server = await start();
    expect(server).toMatchObject({ joined: true, pid: holder.said.pid, port: holder.said.port });
    expect(await query(server.url, 'select one from kept')).toEqual([{ one: 1 }]);
    await server.stop();
    expect(isRunning(server.pid)).toBe(false);
  });

  it('is replaced when it was left with other settings', async () => {
    const holder = await hold(dataDir);
    await holder.kill();
    const server = await start({ settings: { max_connections: '17' } });
    expect(server.joined).toBe(false);
    expect(await query(server.url, 'show max_connections')).toEqual([{ max_connections: '17' }]);
  });

  it('is replaced when it was left behind and does not answer', async () => {
    const holder = await hold(dataDir);
    await query(holder.said.url ?? '', 'create table kept as select 1 as one');
    await holder.kill();
    process.kill(holder.said.pid ?? 0, 'SIGSTOP');
    const server = await start({ startTimeoutMs: 3_000 });
    expect(server.pid).not.toBe(holder.said.pid);
    expect(await query(server.url, 'select one from kept')).toEqual([{ one: 1 }]);
  });

  it('recovers when both were killed', async () => {
    const holder = await hold(dataDir);
    await query(holder.said.url ?? '', 'create table kept as select 1 as one');
    await holder.kill();
    process.kill(holder.said.pid ?? 0, 'SIGKILL');
    const server = await start();
    expect(server.joined).toBe(false);
    expect(await query(server.url, 'select one from kept')).toEqual([{ one: 1 }]);
  });

  it('that is slow to start goes on, and is waited for by whoever asks again', async () => {
    reuseCluster();
    // It recovers from an archive that takes its time to say that it has nothing.
    const settings = {
      restore_command: 'until [ -e go ] || ! [ -e PG_VERSION ]; do sleep 0.05; done; false',
    };
    writeFileSync(path.join(placesOf(dataDir).cluster, 'recovery.signal'), '');
    await expect(start({ startTimeoutMs: 0, settings })).rejects.toSatisfy(isStarting);
    writeFileSync(path.join(placesOf(dataDir).cluster, 'go'), '');
    const server = await start({ settings });
    expect(await query(server.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  it('is seen to die in the background', async () => {
    const server = await start();
    process.kill(server.pid, 'SIGQUIT');
    const { expected, reason } = await server.exited;
    expect(expected).toBe(false);
    expect(reason).toContain('immediate shutdown');
  });
});

describe('what a killed process leaves', () => {
  it('a postmaster.pid whose pid is another program now does not matter', async () => {
    reuseCluster();
    await (await start()).stop();
    const { cluster } = placesOf(dataDir);
    const lines = [process.pid, cluster, 1, 5432, '', '127.0.0.1', '', 'ready'];
    writeFileSync(path.join(cluster, 'postmaster.pid'), `${lines.join('\n')}\n`);
    expect((await start()).joined).toBe(false);
  });

  it.runIf(process.platform === 'linux')(
    'nor one whose pid is a thread of the kernel now, or what else shows no arguments',
    async () => {
      const { cluster } = placesOf(dataDir);
      mkdirSync(cluster, { recursive: true });
      const bare = spawn('/bin/cat', [], { argv0: '', stdio: ['pipe', 'ignore', 'ignore'] });
      await once(bare, 'spawn');
      const lines = [bare.pid, cluster, 1, 5432, '', '127.0.0.1', '', 'ready'];
      writeFileSync(path.join(cluster, 'postmaster.pid'), `${lines.join('\n')}\n`);
      try {
        expect(readFileSync(`/proc/${bare.pid}/cmdline`, 'utf8')).toBe('\0');
        expect(findPostmaster(placesOf(dataDir))).toBeNull();
      } finally {
        bare.kill();
      }
    },
  );

  it('a lock whose pid is another process now does not matter', async () => {
    reuseCluster();
    const { lock } = placesOf(dataDir);
    rmSync(lock, { recursive: true });
    mkdirSync(lock);
    const reused = { ...currentIdentity(), startedAt: '1' };
    writeFileSync(path.join(lock, '1'), JSON.stringify(reused));
    expect((await start()).joined).toBe(false);
  });

  it('a half made cluster is removed', async () => {
    const { root } = placesOf(dataDir);
    const draft = path.join(root, 'cluster.0123456789ab.draft');
    mkdirSync(draft, { recursive: true });
    writeFileSync(path.join(draft, 'PG_VERSION'), '18\n');
    await start();
    expect(statSync(draft, { throwIfNoEntry: false })).toBeUndefined();
  });

  it('a lock of another container counts while it is fresh', () => {
    const { lock } = placesOf(dataDir);
    mkdirSync(lock, { recursive: true });
    const elsewhere = { ...currentIdentity(), namespace: 'elsewhere' };
    writeFileSync(path.join(lock, '1'), JSON.stringify(elsewhere));
    expect(new StartLock(lock).tryAcquire()).toBeNull();
    expect(new StartLock(lock).holder()).toEqual(elsewhere);
  });
});

describe('StartLock', () => {
  it('is held by one, and can be taken again after release', () => {
    const first = new StartLock(path.join(dataDir, 'lock'));
    const second = new StartLock(path.join(dataDir, 'lock'));
    const release = first.tryAcquire();
    expect(release).not.toBeNull();
    expect(second.tryAcquire()).toBeNull();
    release?.();
    const again = second.tryAcquire();
    expect(again).not.toBeNull();
    expect(first.tryAcquire()).toBeNull();
    again?.();
  });
});

describe('the throwaway server of microdollar/testing', () => {
  it('is migrated', async () => {
    const { said, end } = await hold('-');
    const users = await query(said.url ?? '', 'select count(*)::integer as n from kilocode_users');
    expect(users).toEqual([{ n: 0 }]);
    await end('stop');
    expect(existsSync(said.dataDir ?? '')).toBe(false);
  });

  for (const end of ['exit', 'throw', 'kill'] as const) {
    it(`is gone, with its directory, however its process ends: ${end}`, async () => {
      const holder = await hold(`-${inject('madeCluster')}`);
      const { pid = 0, dataDir: throwawayDir = '' } = holder.said;
      expect(existsSync(throwawayDir)).toBe(true);
      if (end === 'kill') await holder.kill();
      else await holder.end(end);
      await vi.waitUntil(() => !isRunning(pid) && !existsSync(throwawayDir), 30_000);
    });
  }
});

describe('restoreSymlinks', () => {
  it('makes the links that an install script would have made, and keeps those there', () => {
    const native = path.join(dataDir, 'native');
    mkdirSync(path.join(native, 'lib'), { recursive: true });
    writeFileSync(path.join(native, 'lib', 'libx.so.1'), 'x');
    const list = [{ source: 'native/lib/libx.so.1', target: 'native/lib/libx.so' }];
    writeFileSync(path.join(native, 'pg-symlinks.json'), JSON.stringify(list));
    restoreSymlinks(dataDir);
    restoreSymlinks(dataDir);
    expect(readlinkSync(path.join(native, 'lib', 'libx.so'))).toBe('libx.so.1');
    expect(readFileSync(path.join(native, 'lib', 'libx.so'), 'utf8')).toBe('x');
  });
});
