/**
 * Builds `dist`: the programs and the page. Plain JavaScript, for it runs where the packages for
 * development may be missing.
 *
 *   --if-changed   not when it was built from these very sources (`npm start`)
 *   --optional     a build that is not possible is left to `npm start` (after `npm ci`, which an
 *                  image runs before it has the sources)
 */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { digestOfInputs, isBuiltFrom, STAMP } from './builtFrom.js';
import { bundleTelemetry } from './bundleTelemetry.js';

const PROJECT = fileURLToPath(new URL('..', import.meta.url));
const MODULES = path.join(PROJECT, 'node_modules');
// Types are checked by `npm run lint` and before publishing: here that would be two fifths of the time.
const STEPS = [
  () =>
    run('typescript/bin/tsc', '-p', 'tsconfig.build.json', '--noCheck')
      .then(bundleTrpc)
      .then((status) => withTelemetry(status))
      .then(removeStale),
  () => run('vite/bin/vite.js', 'build', '--logLevel', 'warn'),
];
const NEEDED = ['typescript', 'vite', 'esbuild', '@trpc/server', '@opentelemetry/sdk-trace-base'];
/** Each brings its program in an optional package for each platform. */
const OF_A_PLATFORM = ['typescript', 'rolldown', 'esbuild', 'lightningcss'];
const TRPC = 'server/trpc/library';
const COULD_NOT_RUN = 3;

const isOptional = process.argv.includes('--optional');
// Without sources, what is built is what there is.
const isLenient = isOptional || process.argv.includes('--if-changed');
if (!isLenient || existsSync(path.join(PROJECT, 'src'))) process.exitCode = await buildChanged();

async function buildChanged() {
  const digest = digestOfInputs();
  return process.argv.includes('--if-changed') && isBuiltFrom(digest) ? 0 : build(digest);
}

async function build(digest) {
  const missing = [
    ...NEEDED.filter((name) => !existsSync(path.join(MODULES, name))),
    ...OF_A_PLATFORM.flatMap(missingProgram),
  ];
  if (missing.length > 0) {
    const remedy = 'run npm ci --include=dev --include=optional';
    return refuse(`${missing.join(', ')} not installed: ${remedy}`);
  }
  try {
    if (!existsSync(path.dirname(STAMP))) mkdirSync(path.dirname(STAMP));
    rmSync(STAMP, { force: true });
    writeFileSync(STAMP, '');
  } catch (error) {
    const remedy = 'run npm run build as a user who may write there';
    return refuse(`${path.dirname(STAMP)} is not built, and cannot be (${error.code}): ${remedy}`);
  }
  const statuses = await Promise.all(STEPS.map((step) => step()));
  const failed = statuses.find((status) => status !== 0);
  if (failed !== undefined) return isOptional ? 0 : failed;
  writeFileSync(STAMP, digest);
  return 0;
}

/** The package with the program for this platform, where it should be there and is not. */
function missingProgram(name) {
  const at = path.join(MODULES, name);
  if (!existsSync(at)) return [];
  const { optionalDependencies } = JSON.parse(readFileSync(path.join(at, 'package.json'), 'utf8'));
  const platform = new RegExp(`\\b${process.platform}-${process.arch}\\b`);
  const wanted = Object.keys(optionalDependencies ?? {}).filter((each) => platform.test(each));
  // Beside it also where a package manager links it from elsewhere.
  const beside = path.resolve(realpathSync(at), '..');
  const isThere = wanted.some((each) => existsSync(path.join(beside, each)));
  return isThere ? [] : wanted.slice(0, 1);
}

function refuse(reason) {
  if (isOptional) return 0;
  process.stderr.write(`error: ${reason}\n`);
  return COULD_NOT_RUN;
}

/** A program of a package, not by PATH: the project's own path may have a `:` in it. */
function run(program, ...args) {
  // Whatever the environment is for: in another one, Vite would build React for developers.
  const env = { ...process.env, NODE_ENV: 'production' };
  const words = [path.join(MODULES, program), ...args];
  const child = spawn(process.execPath, words, { cwd: PROJECT, env, stdio: 'inherit' });
  return new Promise((resolve) => {
    child.on('error', () => resolve(COULD_NOT_RUN));
    child.on('exit', (status) => resolve(status ?? COULD_NOT_RUN));
  });
}

async function withTelemetry(status) {
  if (status === 0) await bundleTelemetry(PROJECT);
  return status;
}

/**
 * tRPC's code in the place of the module that names it: the package is for development alone, for
 * its peer, TypeScript, would be installed wherever the ledger is.
 */
async function bundleTrpc(status) {
  if (status !== 0) return status;
  const { build: bundle } = await import('esbuild');
  const licence = readFileSync(path.join(MODULES, '@trpc/server/LICENSE'), 'utf8');
  await bundle({
    absWorkingDir: PROJECT,
    entryPoints: [`src/${TRPC}.ts`],
    outfile: `dist/${TRPC}.js`,
    bundle: true,
    external: ['fastify'],
    format: 'esm',
    platform: 'node',
    target: 'node20',
    sourcemap: true,
    legalComments: 'inline',
    banner: { js: `/*! The code of @trpc/server:\n${licence}*/` },
    logLevel: 'error',
  });
  return 0;
}

/** What a module left that is not there any more; it would be published. `web` is vite's own. */
function removeStale(status) {
  if (status !== 0) return status;
  const dist = path.join(PROJECT, 'dist');
  for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    const file = path.relative(dist, path.join(entry.parentPath, entry.name));
    const module = /^(?!web[/\\])(.*?)\.(?:js|js\.map|d\.ts)$/.exec(file)?.[1];
    if (module === undefined || existsSync(path.join(PROJECT, 'src', `${module}.ts`))) continue;
    rmSync(path.join(dist, file));
  }
  return 0;
}
