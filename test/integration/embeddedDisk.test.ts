/** Disks that are full: the reason, the remedy, and nothing half made. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startEmbeddedPostgres } from '../../src/db/embedded.js';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import { MAY_MOUNT, withMounts } from '../support/privateMounts.js';
import { programPath } from '../support/programs.js';
import { endServices, launchService, readyUrl } from '../support/serviceProcess.js';

// Each test starts whole services; that ends a hang, and measures nothing.
vi.setConfig({ testTimeout: 180_000 });

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'microdollar-disk-'));
});

afterEach(async () => {
  await endServices();
  rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
});

async function expectRefusal(under: readonly string[], dataDir: string): Promise<string> {
  const service = launchService(['start'], { env: { MICRODOLLAR_DATA_DIR: dataDir }, under });
  expect(await service.ended).toBe(3);
  expect(service.output.stderr).toMatch(/^error: [^\n]*\n$/);
  expect(service.output.stderr).toContain('DIR');
  return service.output.stderr;
}

/** A disk of that size in `dir`; when the command has ended, lists what it left there. */
function onDisk(size: string, before = ''): string[] {
  const script = `mount -t tmpfs -o size=${size},mode=755 tmpfs '${dir}'
${before}
status=0; "$@" || status=$?
ls -A '${dir}' >&2
exit $status`;
  return withMounts(script);
}

describe('a first start that cannot be finished', () => {
  it('says why on one line and leaves nothing behind', async () => {
    // The first segment of the write-ahead log has 16 MB.
    const limited = ['sh', '-c', 'ulimit -f 20000; exec "$@"', 'sh'];
    const error = await expectRefusal(limited, path.join(dir, 'new', 'data'));
    expect(error).toContain('initdb failed');
    expect(readdirSync(dir)).toEqual([]);
  });

  it('leaves nothing behind when several fail at once', async () => {
    const settings = { shared_buffers: 'plenty' };
    const start = () => startEmbeddedPostgres({ dataDir: dir, settings });
    const outcomes = await Promise.allSettled([start(), start()]);
    for (const { status } of outcomes) expect(status).toBe('rejected');
    expect(readdirSync(dir)).toEqual([]);
  });

  it('leaves alone what was there before', async () => {
    const dataDir = path.join(dir, 'data');
    const other = path.join(dataDir, 'postgres', 'of somebody else');
    mkdirSync(other, { recursive: true });
    const failure = startEmbeddedPostgres({ dataDir, settings: { shared_buffers: 'plenty' } });
    await expect(failure).rejects.toMatchObject({ code: 'unavailable' });
    await expect(failure).rejects.toThrow(/^[^\n]*shared_buffers[^\n]*"plenty"[^\n]*$/);
    expect(readdirSync(path.join(dataDir, 'postgres'))).toEqual(['of somebody else']);
  });
});

// Where mounts are forbidden, there is no disk to fill: the tests above are what can be tried.
if (MAY_MOUNT) {
  describe('a disk that is too small', () => {
    it('is noticed before the database is made', async () => {
      const error = await expectRefusal(onDisk('40m'), path.join(dir, 'data'));
      expect(error).toMatch(/has \d+ MB free, a new database needs 100 MB: free some space/);
      expect(error).not.toContain('server.log');
    });

    it('is told from a full one', async () => {
      const fill = `head -c 40m /dev/zero > '${dir}/fill' 2>/dev/null || true`;
      const under = onDisk('1m', `${fill}`);
      const service = launchService(['start'], { env: { MICRODOLLAR_DATA_DIR: dir }, under });
      expect(await service.ended).toBe(3);
      expect(service.output.stderr).toMatch(/^error: [^\n]*disk is full: free some space[^\n]*\n/);
      expect(service.output.stderr).toMatch(/\nfill\n$/);
    });
  });

  describe('a database on a full disk', () => {
    it('is not started, and is whole when there is space again', async () => {
      const made = path.join(dir, 'made');
      mkdirSync(made);
      copyMadeCluster(made);
      const full = mkdtempSync(path.join(tmpdir(), 'microdollar-full-'));
      try {
        const script = `mount -t tmpfs -o size=100m tmpfs '${full}'
cp -a '${made}/.' '${full}'
head -c 200m /dev/zero > '${full}/fill' 2>/dev/null || true
status=0; "$@" || status=$?
rm '${full}/fill'
[ $status = 3 ] && exec "$@"`;
        const service = launchService(['start'], {
          env: { MICRODOLLAR_DATA_DIR: full },
          under: withMounts(script),
        });
        await readyUrl(service);
        expect(service.output.stderr).toMatch(/^error: [^\n]*full: free some space[^\n]*\n/);
        service.child.kill('SIGTERM');
        expect(await service.ended).toBe(0);
      } finally {
        rmSync(full, { recursive: true });
      }
      expect(existsSync(path.join(made, 'postgres', 'cluster'))).toBe(true);
    });

    it('is refused to a program that uses the library in the same words', async () => {
      const script = `mount -t tmpfs -o size=1m tmpfs '${dir}'
head -c 2m /dev/zero > '${dir}/fill' 2>/dev/null || true`;
      const holder = [programPath('test/support/holdEmbedded.ts'), `${dir}/data`];
      const [command = '', ...args] = withMounts(script, 'sh', process.execPath, ...holder);
      const said = JSON.parse(execFileSync(command, args, { encoding: 'utf8' }));
      expect(said.code).toBe('unavailable');
      expect(said.message).toMatch(/ENOSPC[^\n]*free some space there, choose another/);
    });
  });
}
