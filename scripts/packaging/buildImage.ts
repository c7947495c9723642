import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Stage, Step } from './dockerfile.js';
import { mountScript } from './mounts.js';

/** What a stage makes. */
export interface Image {
  /** What was added to this machine's own root, which lies below it. */
  layer: string;
  /** Directories of this machine in the place of directories of the image. */
  binds: { target: string; source: string }[];
  env: Record<string, string>;
  workdir: string;
  user: string;
  volumes: string[];
  ports: string[];
  entrypoint: string[];
  command: string[];
  healthcheck: string[];
  stopSignal: string;
}

export interface BuildOptions {
  stages: readonly Stage[];
  /** What is sent to a builder: paths from the project's root. */
  context: readonly string[];
  project: string;
  scratch: string;
  /** Taken for `npm ci` with development packages: what it has left in the project. */
  installed: string | null;
}

/**
 * The last stage of a Dockerfile, made without a container engine: each RUN in a chroot whose root is an
 * overlay over this machine's, which stands for the base image. Needs root and Linux.
 */
export function buildImage(options: BuildOptions): Image {
  const built = new Map<string, Image>();
  let last: Image | undefined;
  for (const stage of options.stages) {
    const image = startStage(built.get(stage.base), options.scratch);
    for (const step of stage.steps) apply(step, image, built, options);
    if (stage.name !== null) built.set(stage.name, image);
    last = image;
  }
  if (last === undefined) throw new Error('the Dockerfile has no stage');
  return last;
}

/** A copy of the stage that it is based on: an overlay does not take layers that lie in its lowest. */
function startStage(base: Image | undefined, scratch: string): Image {
  const layer = mkdtempSync(path.join(scratch, 'layer-'));
  chmodSync(layer, 0o755);
  if (base !== undefined) {
    cpSync(base.layer, layer, { recursive: true, verbatimSymlinks: true });
    return { ...structuredClone(base), layer };
  }
  return {
    layer,
    binds: [],
    env: {},
    workdir: '/',
    user: '0:0',
    volumes: [],
    ports: [],
    entrypoint: [],
    command: [],
    healthcheck: [],
    stopSignal: 'SIGTERM',
  };
}

function apply(
  step: Step,
  image: Image,
  built: ReadonlyMap<string, Image>,
  options: BuildOptions,
): void {
  const { words } = step;
  switch (step.keyword) {
    case 'WORKDIR':
      image.workdir = path.posix.resolve(image.workdir, words[0] ?? '');
      mkdirSync(inLayer(image, image.workdir), { recursive: true });
      break;
    case 'ENV':
      Object.assign(image.env, Object.fromEntries(step.variables));
      break;
    case 'COPY':
      copy(step, image, built, options);
      break;
    case 'RUN':
      run(step, image, options);
      break;
    case 'USER':
      image.user = words[0] ?? '';
      break;
    case 'VOLUME':
      image.volumes.push(...words);
      break;
    case 'EXPOSE':
      image.ports.push(...words);
      break;
    case 'ENTRYPOINT':
      image.entrypoint = words;
      break;
    case 'CMD':
      image.command = words;
      break;
    case 'HEALTHCHECK':
      image.healthcheck = JSON.parse(step.text.slice(step.text.indexOf('[')));
      break;
    case 'STOPSIGNAL':
      image.stopSignal = words[0] ?? '';
      break;
    default:
      throw new Error(`${step.keyword} is not known to this check`);
  }
}

function copy(
  step: Step,
  image: Image,
  built: ReadonlyMap<string, Image>,
  { context, project }: BuildOptions,
): void {
  const from = step.flags.find(({ name }) => name === 'from')?.value;
  const sources = step.words.slice(0, -1);
  const last = step.words.at(-1) ?? '';
  const target = inLayer(image, path.posix.resolve(image.workdir, last));
  for (const source of sources) {
    const isInto = last.endsWith('/') || source === '.' || sources.length > 1;
    if (from === undefined) {
      const wanted = path.posix.normalize(source).replace(/\/$/, '');
      const files = context.filter((file) => wanted === '.' || isWithin(file, wanted));
      if (files.length === 0) throw new Error(`COPY ${source}: nothing of that name is sent`);
      for (const file of files) {
        const isFile = file === wanted;
        const rest = isFile ? path.posix.basename(file) : path.posix.relative(wanted, file);
        const to = isFile && !isInto ? target : path.join(target, rest);
        cpSync(path.join(project, file), to, { recursive: true, verbatimSymlinks: true });
      }
    } else {
      const stage = built.get(from);
      if (stage === undefined) throw new Error(`COPY --from=${from}: there is no such stage`);
      const found = find(stage, path.posix.resolve(stage.workdir, source));
      if (found === null) throw new Error(`COPY ${source}: ${from} has nothing of that name`);
      const to = isInto && !statSync(found).isDirectory() ? path.join(target, source) : target;
      cpSync(found, to, { recursive: true, verbatimSymlinks: true });
    }
  }
}

const isWithin = (file: string, dir: string) => file === dir || file.startsWith(`${dir}/`);

function run(step: Step, image: Image, { installed, scratch }: BuildOptions): void {
  if (installed !== null && step.text.trim() === 'npm ci') {
    image.binds.push({ target: path.posix.join(image.workdir, 'node_modules'), source: installed });
    return;
  }
  const caches = step.flags
    .filter(({ name, value }) => name === 'mount' && value.includes('type=cache'))
    .map(({ value }) => ({
      target: /target=([^,]+)/.exec(value)?.[1] ?? '',
      source: npmCache(),
    }));
  const root = mkdtempSync(path.join(scratch, 'root-'));
  const work = mkdtempSync(path.join(scratch, 'work-'));
  const binds = [...image.binds, ...caches];
  const mounts = mountScript({ root, work, upper: image.layer, binds });
  const env = Object.entries({ PATH: imagePath(), HOME: '/root', ...image.env });
  const command = ['chroot', root, 'env', '-i', '-C', image.workdir];
  const variables = env.map(([name, value]) => `${name}=${value}`);
  const began = Date.now();
  const { status } = spawnSync(
    'unshare',
    ['-m', 'sh', '-c', mounts, ...command, ...variables, 'sh', '-c', step.text],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  if (status !== 0) throw new Error(`RUN ${step.text}: status ${status}`);
  console.log(`  RUN ${step.text} (${((Date.now() - began) / 1_000).toFixed(1)} s)`);
}

/** Where a path of the image is; null: it is not there, or of the base image. */
export function find(image: Image, inside: string): string | null {
  for (const { target, source } of image.binds) {
    if (isWithin(inside, target)) return path.join(source, path.posix.relative(target, inside));
  }
  const place = inLayer(image, inside);
  return statSync(place, { throwIfNoEntry: false }) ? place : null;
}

const inLayer = (image: Image, inside: string) => path.join(image.layer, inside);

/** That of the base image, with where this machine has its Node.js. */
export function imagePath(): string {
  const usual = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  return `${path.dirname(process.execPath)}:${usual}`;
}

function npmCache(): string {
  const { stdout } = spawnSync('npm', ['config', 'get', 'cache'], { encoding: 'utf8' });
  const cache = stdout.trim();
  mkdirSync(cache, { recursive: true });
  return cache;
}
