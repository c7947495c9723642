import { accessSync, constants, readFileSync, statfsSync } from 'node:fs';
import { configDefaults, defineConfig } from 'vitest/config';
import { findAbsentSuites } from './test/support/additionalSuites.js';
import { LongestFirst } from './test/support/longestFirst.js';
import { RetriedTests } from './test/support/retriedTests.js';

const MEMORY = '/dev/shm';
const ENOUGH_BYTES = 6 * 1024 ** 3;

function hasRoomInMemory(): boolean {
  try {
    accessSync(MEMORY, constants.W_OK);
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize >= ENOUGH_BYTES && !isNoexec(MEMORY);
  } catch {
    return false;
  }
}

/** As containers and hardened machines mount it; tests run programs that they put there. */
function isNoexec(mountPoint: string): boolean {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const options = mounts.findLast((line) => line.split(' ')[1] === mountPoint)?.split(' ')[3];
  return options?.split(',').includes('noexec') ?? false;
}

// Hundreds of databases are made and dropped: on a disk, a third of the run is spent in its file system.
if (process.env.TMPDIR === undefined && hasRoomInMemory()) process.env.TMPDIR = MEMORY;

const absent = findAbsentSuites();
for (const { files, needs } of absent) console.error(`not part of this run: ${files} (${needs})`);

export default defineConfig({
  test: {
    environment: 'node',
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...absent.map(({ files }) => files)],
    globalSetup: ['test/support/globalSetup.ts'],
    // Real servers on small machines: a test that hangs is ended, none is measured by the clock.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    expect: { poll: { timeout: 30_000 } },
    pool: 'forks',
    // A process loads the modules once, not for each file: a tenth of the run.
    isolate: false,
    // In `.ci/run` alone: a busy machine there must not decide. Who needed it, and why, is printed.
    reporters: ['default', new RetriedTests()],
    retry: process.env.MICRODOLLAR_TEST_ALL ? 1 : 0,
    sequence: { sequencer: LongestFirst },
    // More than twice the cores of CI: tests often wait, for a process or for a lock.
    maxWorkers: 5,
  },
});
