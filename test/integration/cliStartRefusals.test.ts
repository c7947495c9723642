/** What `start` refuses, before it makes, starts or migrates anything. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { obtainAdminKey } from '../../src/cli/adminKey.js';
import { readEnvironment } from '../../src/cli/environment.js';
import { chooseAccount } from '../../src/db/embedded/account.js';
import { placesOf } from '../../src/db/embedded/cluster.js';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import { createTestDatabase } from '../support/database.js';
import { MAY_MOUNT, withMounts } from '../support/privateMounts.js';
import { endServices, type LaunchOptions, launchService } from '../support/serviceProcess.js';
import { runCommand } from './cliHarness.js';

// Each test starts whole services; that ends a hang, and measures nothing.
vi.setConfig({ testTimeout: 180_000 });

const isRoot = process.getuid?.() === 0;
const ORDINARY = { uid: 65534, gid: 65534 };

let dir: string;
let dataDir: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'microdollar-refusals-'));
  chmodSync(dir, 0o755);
  dataDir = path.join(dir, 'not there yet', 'data');
});

afterEach(async () => {
  await endServices();
  rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
});

/** The one line it says, with status 3. Where another user or mounts are needed, in a process. */
async function refusalOf(options: LaunchOptions, argv = ['start']): Promise<string> {
  const { env: own, ...how } = options;
  const env = { MICRODOLLAR_DATA_DIR: dataDir, ...own };
  const isPlain = Object.keys(how).length === 0;
  const run = isPlain
    ? await runCommand({ PORT: '0', ...env }, ...argv)
    : await runService(argv, { ...how, env });
  expect(run.status).toBe(3);
  expect(run.stdout).toBe('');
  expect(run.stderr).toMatch(/^error: [^\n]*\n$/);
  return run.stderr;
}

async function runService(argv: readonly string[], options: LaunchOptions) {
  const service = launchService(argv, options);
  return { status: await service.ended, ...service.output };
}

describe('an address that cannot be used', () => {
  it('is refused before a database is made', async () => {
    const occupied = await occupyPort();
    try {
      const error = await refusalOf({ env: { PORT: occupied.port } });
      expect(error).toContain(
        `port ${occupied.port} on 127.0.0.1 is in use; set PORT to a free one`,
      );
      const asked = { env: { MICRODOLLAR_DATA_DIR: dataDir, PORT: occupied.port } };
      const { status, stdout } = await runService(['start', '--json'], asked);
      expect(status).toBe(3);
      expect(`error: ${JSON.parse(stdout).error.message}\n`).toBe(error);
    } finally {
      await occupied.release();
    }
    expect(await refusalOf({ env: { HOST: '192.0.2.1' } })).toContain('set HOST');
    expect(readdirSync(dir)).toEqual([]);
  });

  it.each([
    ['MICRODOLLAR_PRICES_FILE', '/nowhere/prices.json', 'the file cannot be read (ENOENT)'],
    ['MICRODOLLAR_UPSTREAMS_FILE', '/nowhere/upstreams.json', 'the file cannot be read (ENOENT)'],
    ['MICRODOLLAR_TRUSTED_PROXIES', 'everybody', 'everybody'],
  ])('%s that is wrong is refused before a database is made', async (name, value, reason) => {
    const run = await runCommand({ MICRODOLLAR_DATA_DIR: dataDir, [name]: value }, 'start');
    expect(run).toMatchObject({ status: 2, stdout: '' });
    expect(run.stderr).toContain(reason);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('is refused before the database of DATABASE_URL is migrated', async () => {
    const database = await createTestDatabase({ empty: true });
    const occupied = await occupyPort();
    try {
      await refusalOf({ env: { PORT: occupied.port, DATABASE_URL: database.url } });
      const { rows } = await database.pool.query(
        `select count(*)::integer as n from pg_class where relnamespace = 'public'::regnamespace`,
      );
      expect(rows).toEqual([{ n: 0 }]);
    } finally {
      await occupied.release();
      await database.drop();
    }
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe('a data directory that cannot be written', () => {
  it('is refused when it belongs to somebody else', async () => {
    mkdirSync(dataDir, { recursive: true });
    chmodSync(dataDir, isRoot ? 0o755 : 0o555);
    expect(await refusalOf(isRoot ? ORDINARY : {})).toMatch(
      /data directory .* \(EACCES\); set MICRODOLLAR_DATA_DIR to a directory that can be written/,
    );
    expect(readdirSync(dataDir)).toEqual([]);
  });

  it.runIf(isRoot)('says whose it must be, where root copied it without its owners', async () => {
    mkdirSync(dataDir, { recursive: true });
    copyMadeCluster(dataDir);
    const { cluster } = placesOf(dataDir);
    execFileSync('chown', ['-R', '0:0', cluster]);
    const { uid, gid, name } = chooseAccount(cluster) ?? {};
    const command = `chown -R ${uid}:${gid} ${cluster}`;
    expect(await refusalOf({})).toContain(
      `the server runs as ${name}: give it its files (${command})`,
    );
  });

  it('is refused when it is a file, also by commands', async () => {
    mkdirSync(path.dirname(dataDir));
    writeFileSync(dataDir, 'mine');
    for (const argv of [['start'], ['status']]) {
      expect(await refusalOf({}, argv)).toContain('set MICRODOLLAR_DATA_DIR');
    }
    expect(readFileSync(dataDir, 'utf8')).toBe('mine');
  });

  // Only Linux has such a place.
  if (process.platform === 'linux') {
    it.each(['/proc/x', '/proc/x/y', '/sys/x'])(
      'is refused where directories cannot be made: %s',
      async (place) => {
        const refused = (argv: string[]) =>
          refusalOf({ env: { MICRODOLLAR_DATA_DIR: place } }, argv);
        expect(await refused(['start'])).toContain(`cannot use the data directory ${place}`);
        // Looks, and makes nothing.
        expect(await refused(['status'])).toContain(`there is no ledger in ${place}`);
      },
    );
  }

  // Where mounts are forbidden, a directory of somebody else's is what can be tried.
  if (MAY_MOUNT) {
    it('is refused on a read-only disk', async () => {
      const under = withMounts(`mount -t tmpfs -o ro tmpfs '${dir}'`);
      expect(await refusalOf({ under })).toContain('(EROFS); set MICRODOLLAR_DATA_DIR');
      expect(readdirSync(dir)).toEqual([]);
    });
  }
});

describe('a directory with the cluster of another server', () => {
  const clusterOf = (root: string) => path.join(root, 'postgres', 'cluster');

  it('is refused with both versions and left as it is', async () => {
    const cluster = clusterOf(dataDir);
    mkdirSync(cluster, { recursive: true });
    writeFileSync(path.join(cluster, 'PG_VERSION'), '17\n');
    for (const argv of [['start'], ['status']]) {
      const error = await refusalOf({}, argv);
      expect(error).toContain(`${cluster} was made by PostgreSQL 17, this is PostgreSQL 18`);
      expect(error).toContain('dump it with PostgreSQL 17');
    }
    expect(readdirSync(dataDir)).toEqual(['postgres']);
    expect(readdirSync(path.join(dataDir, 'postgres'))).toEqual(['cluster']);
    expect(readdirSync(cluster)).toEqual(['PG_VERSION']);
  });

  it('is refused when it is not whole', async () => {
    const cluster = clusterOf(dataDir);
    mkdirSync(path.join(cluster, 'base'), { recursive: true });
    expect(await refusalOf({})).toContain('no whole cluster: it has no PG_VERSION');
    expect(readdirSync(cluster)).toEqual(['base']);
  });

  it('is refused when it is a cluster itself', async () => {
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(path.join(dataDir, 'PG_VERSION'), '18\n');
    expect(await refusalOf({})).toContain('is a PostgreSQL cluster itself');
    expect(readdirSync(dataDir)).toEqual(['PG_VERSION']);
  });
});

it('an admin key that can be guessed is refused before anything is made', async () => {
  const error = await refusalOf({ env: { MICRODOLLAR_ADMIN_KEY: 'x' } });
  expect(error).toContain('MICRODOLLAR_ADMIN_KEY has 1 characters');
  expect(error).toContain('at least 16');
  expect(readdirSync(dir)).toEqual([]);
});

it('a start that fails after its admin key was made leaves the showing to the next', async () => {
  const database = await createTestDatabase();
  const keyFile = path.join(dataDir, 'admin-key');
  try {
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(path.join(dataDir, 'journal'), 'no directory');
    const env = { MICRODOLLAR_DATA_DIR: dataDir, DATABASE_URL: database.url };
    const run = await runService(['start'], { env });
    expect(run.status).not.toBe(0);
    expect(run.stderr).toContain('journal');
  } finally {
    await database.drop();
  }
  // Another start beside it may serve with that key.
  const key = readFileSync(keyFile, 'utf8').trim();
  const environment = readEnvironment({ MICRODOLLAR_DATA_DIR: dataDir });
  expect(await obtainAdminKey(environment)).toEqual({ key, isNew: true });
  expect(await obtainAdminKey(environment)).toEqual({ key, isNew: false });
});

async function occupyPort(): Promise<{ port: string; release(): Promise<unknown> }> {
  const occupant = createServer();
  await new Promise<void>((resolve) => occupant.listen(0, '127.0.0.1', resolve));
  const address = occupant.address();
  const port = String(typeof address === 'object' ? address?.port : address);
  return { port, release: () => new Promise((resolve) => occupant.close(resolve)) };
}
