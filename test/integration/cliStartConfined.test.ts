/** `start` where the machine, a container or a sandbox withholds what it is used to. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MAY_MOUNT, withMounts } from '../support/privateMounts.js';
import {
  endServices,
  expectToServe,
  type LaunchOptions,
  launchService,
} from '../support/serviceProcess.js';

// Each test starts whole services; that ends a hang, and measures nothing.
vi.setConfig({ testTimeout: 180_000 });

const isRoot = process.getuid?.() === 0;

let home: string;
let dataDir: string;

beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'microdollar-confined-'));
  dataDir = path.join(home, 'data');
});

afterEach(async () => {
  await endServices();
  rmSync(home, { recursive: true, force: true, maxRetries: 3 });
});

const start = ({ env, ...options }: LaunchOptions) =>
  launchService(['start'], { ...options, env: { ...env, MICRODOLLAR_DATA_DIR: dataDir } });

/** One line with the remedy, and nothing left behind. */
async function refusal(...under: string[]): Promise<string> {
  const service = start({ under });
  expect(await service.ended).toBe(3);
  expect(service.output.stderr).toMatch(/^error: [^\n]*set DATABASE_URL\n$/);
  expect(existsSync(dataDir)).toBe(false);
  return service.output.stderr;
}

it.runIf(process.platform === 'linux')(
  'serves where LD_LIBRARY_PATH leads to other libraries of the same names',
  async () => {
    const others = path.join(home, 'lib');
    mkdirSync(others);
    for (const name of ['libxml2.so.2', 'libssl.so.1.1', 'libz.so.1'])
      writeFileSync(path.join(others, name), 'of another program');
    chmodSync(home, 0o755);
    await expectToServe(start({ env: { LD_LIBRARY_PATH: others } }));
  },
);

// Namespaces and rights are root's to take away.
if (isRoot && MAY_MOUNT) {
  describe('start as root in a container', () => {
    it('serves, and stops its server, without the right to signal other users', async () => {
      await expectToServe(start({ under: ['setpriv', '--bounding-set=-kill'] }));
    });

    it('says so where it may not give files away', async () => {
      const said = await refusal('setpriv', '--bounding-set=-chown');
      expect(said).toContain('root lacks the right to do that here: run as an ordinary user');
    });

    it('says so where nothing can be reached on 127.0.0.1', async () => {
      expect(await refusal('unshare', '-n')).toContain('127.0.0.1 (ENETUNREACH): bring up');
    });

    it('says so where there is no /proc', async () => {
      const [command = '', ...args] = withMounts('mount -t tmpfs tmpfs /proc', 'env');
      expect(await refusal(command, ...args)).toContain('mount -t proc proc /proc');
    });
  });
}
