/** What a process loads before it does anything: of a short command that is most of its time. */
import path from 'node:path';
import { build, type Metafile } from 'esbuild';
import { beforeAll, describe, expect, it } from 'vitest';
import { Output } from '../../src/cli/output.js';
import { createProgram } from '../../src/cli/program.js';

const PROJECT = path.join(import.meta.dirname, '../..');

const MAIN = 'src/cli/main.ts';
/** Whatever command it is, and what each with a database needs. */
const DATABASE = ['src/cli/environment.ts', 'src/cli/database.ts'];

let inputs: Metafile['inputs'];

beforeAll(async () => {
  const { metafile } = await build({
    absWorkingDir: PROJECT,
    entryPoints: [MAIN],
    outdir: 'unwritten',
    write: false,
    bundle: true,
    splitting: true,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    metafile: true,
    logLevel: 'error',
  });
  ({ inputs } = metafile);
});

/** Own modules, and names of packages, that are imported before the first of theirs runs. */
function loadedBy(...entries: string[]): { modules: string[]; packages: string[] } {
  const modules = new Set(entries);
  const packages = new Set<string>();
  // Grows while it is walked.
  for (const module of modules) {
    for (const { path: target, kind, external } of inputs[module]?.imports ?? []) {
      if (kind === 'dynamic-import') continue;
      if (!external) modules.add(target);
      else if (!target.startsWith('node:')) packages.add(target);
    }
  }
  return { modules: [...modules], packages: [...packages].sort() };
}

describe('loaded is', () => {
  it('for the list of commands, none of them', () => {
    const { modules, packages } = loadedBy(MAIN);
    expect(packages).toEqual(['commander']);
    expect(modules.length).toBeLessThan(20);
  });

  it('for a command, its module and those that it needs: of packages, a driver', () => {
    const { modules, packages } = loadedBy(MAIN, ...DATABASE, 'src/cli/fold.ts');
    expect(packages).toEqual(['commander', 'pg']);
    expect(modules.length).toBeLessThan(100);
    expect(loadedBy(MAIN, ...DATABASE, 'src/cli/status.ts').packages).toEqual(packages);
  });

  it('for the service, the page and the gateway only once it is known that it starts', () => {
    const { packages } = loadedBy(MAIN, ...DATABASE, 'src/cli/start.ts');
    for (const later of ['fastify', 'undici', 'zod', 'vite']) expect(packages).not.toContain(later);
  });
});

describe('the list of commands', () => {
  const run = async () => {};

  it('says of each what its module makes of it', async () => {
    const output = new Output(false, process);
    const [listed, whole] = await Promise.all([
      createProgram(output, run, ['--help']),
      createProgram(output, run),
    ]);
    expect(listed.helpInformation()).toBe(whole.helpInformation());
    for (const command of whole.commands)
      expect(command.commands.length + acts(command)).not.toBe(0);
  });

  it('has whole the commands that a command line names', async () => {
    const output = new Output(false, process);
    const program = await createProgram(output, run, ['--shard', 'a', 'fold']);
    const made = program.commands.filter((command) => acts(command) === 1);
    expect(made.map((command) => command.name())).toEqual(['fold']);
  });
});

/** Whether something happens when it is called. */
const acts = (command: object): number =>
  '_actionHandler' in command && command._actionHandler !== null ? 1 : 0;
