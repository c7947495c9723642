/** Machines with little or no /dev/shm: containers have 64 MB of it, or none. */
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import { queryEmbedded } from '../support/embeddedUrl.js';
import { MAY_MOUNT, withMounts } from '../support/privateMounts.js';
import { endServices, launchService, readyUrl } from '../support/serviceProcess.js';

// Each test starts whole services; that ends a hang, and measures nothing.
vi.setConfig({ testTimeout: 180_000 });

/** A /dev with what every container has, but no shm. */
const WITHOUT_SHM = `
mount --rbind /dev "$1"
mount -t tmpfs -o mode=755 tmpfs /dev
for name in null zero random urandom full; do
  touch "/dev/$name"
  mount --bind "$1/$name" "/dev/$name"
done
ln -s /proc/self/fd /dev/fd
shift`;
const SMALL_SHM = 'mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm';

/** Of 900 bytes and more: 70 MB. */
const ROWS = 75_000;
/** Its hash table is shared by processes and larger than 64 MB. */
const PARALLEL_QUERY = [
  'set work_mem = 200000',
  'set parallel_setup_cost = 0',
  'set parallel_tuple_cost = 0',
  'set min_parallel_table_scan_size = 0',
  'set enable_mergejoin = off',
  `create table large as select g, repeat('x', 900) as x from generate_series(1, ${ROWS}) g`,
  'analyze large',
];
const JOIN = 'select count(*)::integer as n from large a join large b on a.g = b.g and a.x = b.x';

let dataDir: string;

beforeEach(() => {
  // Not in TMPDIR, which may be /dev/shm.
  dataDir = mkdtempSync('/var/tmp/microdollar-memory-');
});

afterEach(async () => {
  await endServices();
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
});

async function serve(under: readonly string[]) {
  const service = launchService(['start'], { env: { MICRODOLLAR_DATA_DIR: dataDir }, under });
  await readyUrl(service);
  return async () => {
    service.child.kill('SIGTERM');
    expect(await service.ended).toBe(0);
  };
}

async function expectParallelQuery(): Promise<void> {
  const plan = await queryEmbedded(dataDir, ...PARALLEL_QUERY, `explain ${JOIN}`);
  expect(JSON.stringify(plan)).toContain('Parallel Hash');
  const rows = await queryEmbedded(dataDir, ...PARALLEL_QUERY.slice(0, 5), JOIN);
  expect(rows).toEqual([{ n: ROWS }]);
}

describe('parallel queries', () => {
  it('take their memory from the kernel, not from /dev/shm', async () => {
    copyMadeCluster(dataDir);
    const stop = await serve([]);
    const rows = await queryEmbedded(dataDir, 'show dynamic_shared_memory_type');
    expect(rows).toEqual([{ dynamic_shared_memory_type: 'sysv' }]);
    await expectParallelQuery();
    await stop();
  });
});

// Where mounts are forbidden, the test above is what can be tried.
if (MAY_MOUNT) {
  describe('the embedded server', () => {
    it('does all its work beside a /dev/shm of 64 MB', async () => {
      const stop = await serve(withMounts(SMALL_SHM));
      await expectParallelQuery();
      await stop();
    });

    it('starts, and starts again, on a machine without /dev/shm', async () => {
      copyMadeCluster(dataDir);
      await (await serve([]))();
      const mountPoint = mkdtempSync(path.join(dataDir, 'dev-'));
      const stop = await serve(withMounts(WITHOUT_SHM, 'sh', mountPoint));
      await expectParallelQuery();
      await stop();
    });
  });
}
