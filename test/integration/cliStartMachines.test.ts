/** `start` as a newcomer meets it: who he is, where he installed, what he may write. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { installIn, PROGRAMS_DIR } from '../support/installation.js';
import { MAY_MAP_USERS, MAY_MOUNT, withMounts } from '../support/privateMounts.js';
import {
  endServices,
  expectToServe as expectServed,
  type LaunchOptions,
  launchService,
} from '../support/serviceProcess.js';

// Each test starts whole services; that ends a hang, and measures nothing.
vi.setConfig({ testTimeout: 180_000 });

const REPOSITORY = path.resolve(import.meta.dirname, '../..');
const isRoot = process.getuid?.() === 0;
const ORDINARY = { uid: 65534, gid: 65534 };
/** In no /etc/passwd. */
const NAMELESS = { uid: 12345, gid: 12345 };
const UMASK_077 = ['sh', '-c', 'umask 077; exec "$@"', 'sh'];

/** Everything of a test. */
let home: string;
let project: string;

beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'microdollar-mächine of its own-'));
  project = path.join(home, 'project');
});

afterEach(async () => {
  await endServices();
  rmSync(home, { recursive: true, force: true, maxRetries: 3 });
});

/** Starts, is asked for health and page, and stops with nothing of the server left running. */
const expectToServe = (options: LaunchOptions) =>
  expectServed(launchService(['start'], { cwd: project, ...options }), async (url) => {
    expect((await fetch(url)).headers.get('content-type')).toContain('text/html');
  });

function giveTo({ uid, gid }: { uid: number; gid: number }, dir: string): void {
  execFileSync('chown', ['-R', `${uid}:${gid}`, dir]);
}

const modeOf = (file: string) => execFileSync('stat', ['-c', '%a', file], { encoding: 'utf8' });

describe('start in a directory closed to others', () => {
  beforeEach(() => {
    installIn(project);
    for (const dir of [home, project]) chmodSync(dir, 0o700);
  });

  it('serves, with no program of the system but a shell, and opens no directory to anybody', async () => {
    await expectToServe({ env: { PATH: '' } });
    await expectToServe({});
    expect([home, project, path.join(project, '.microdollar')].map(modeOf)).toEqual(
      Array(3).fill('700\n'),
    );
  });

  it('serves with umask 077, also where it was installed so', async () => {
    execFileSync('chmod', ['-R', 'go-rwx', path.join(project, PROGRAMS_DIR)]);
    await expectToServe({ under: UMASK_077 });
    await expectToServe({ under: UMASK_077 });
  });
});

// The rest of what root can meet needs mounts or a user namespace.
if (isRoot && MAY_MOUNT) {
  describe('start as root that cannot run the server', () => {
    async function refusal(under: readonly string[]): Promise<string> {
      const env = { TMPDIR: '/var/tmp' };
      const service = launchService(['start'], { cwd: project, env, under });
      expect(await service.ended).toBe(3);
      expect(service.output.stderr).toMatch(/^error: [^\n]*set DATABASE_URL\n/);
      expect(existsSync(path.join(project, '.microdollar'))).toBe(false);
      return service.output.stderr;
    }

    it('says so where no place for its programs is found, and leaves no copy', async () => {
      installIn(project);
      chmodSync(home, 0o700);
      // This project may lie below one of them.
      const script = `
mount -t tmpfs tmpfs /mnt
mkdir /mnt/project
mount --bind '${REPOSITORY}' /mnt/project
mount -t tmpfs -o noexec tmpfs /var/cache
mount -t tmpfs -o noexec,mode=1777 tmpfs /var/tmp
mkdir -p '${REPOSITORY}'
mount --bind /mnt/project '${REPOSITORY}'
status=0; "$@" || status=$?
find /var/cache /var/tmp -xdev -name 'microdollar-postgresql*' >&2
exit $status`;
      const said = await refusal(withMounts(script));
      expect(said).toContain(`${home} is closed to it; no copy in /var/cache: `);
      expect(said).toContain('run as an ordinary user');
      expect(said).toMatch(/^[^\n]*\n$/);
    });

    it('says so where it may not become another user', async () => {
      installIn(project);
      chmodSync(home, 0o755);
      expect(await refusal(['setpriv', '--bounding-set=-setuid,-setgid'])).toContain(
        'may not change to that user',
      );
    });
  });
}

describe('start as an ordinary user', () => {
  beforeEach(() => installIn(project));

  it('serves from a directory of his own', async () => {
    if (isRoot) giveTo(ORDINARY, home);
    await expectToServe(isRoot ? ORDINARY : {});
  });

  it.runIf(isRoot || MAY_MAP_USERS)(
    'serves although the user has no name, as in `docker run --user 12345`',
    async () => {
      if (isRoot) giveTo(NAMELESS, home);
      const asNameless = isRoot ? NAMELESS : { under: ['unshare', '-U', '--map-user=12345'] };
      await expectToServe(asNameless);
      await expectToServe(asNameless);
    },
  );
});

describe('start in a project directory that cannot be written', () => {
  /** The install scripts of packages did not run: links of the server's libraries are missing. */
  function removeLinks(): void {
    const lib = path.join(project, PROGRAMS_DIR, 'native', 'lib');
    for (const entry of readdirSync(lib, { withFileTypes: true })) {
      if (entry.isSymbolicLink()) rmSync(path.join(lib, entry.name));
    }
  }

  for (const scripts of ['with install scripts', 'without'] as const) {
    it(`keeps everything in MICRODOLLAR_DATA_DIR (${scripts})`, async () => {
      installIn(project);
      if (scripts === 'without') removeLinks();
      const dataDir = path.join(home, 'elsewhere', 'data');
      mkdirSync(path.dirname(dataDir));
      chmodSync(home, 0o755);
      if (isRoot) giveTo(ORDINARY, path.dirname(dataDir));
      // Root may write everywhere: to others the directory is read-only by its modes.
      else execFileSync('chmod', ['-R', 'a-w', project]);
      try {
        const options = { env: { MICRODOLLAR_DATA_DIR: dataDir }, ...(isRoot ? ORDINARY : {}) };
        await expectToServe(options);
        await expectToServe(options);
      } finally {
        execFileSync('chmod', ['-R', 'u+w', project]);
      }
      expect(existsSync(path.join(project, '.microdollar'))).toBe(false);
      expect(existsSync(path.join(dataDir, 'postgres', 'cluster', 'PG_VERSION'))).toBe(true);
    });
  }
});
