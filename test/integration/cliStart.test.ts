import { type ChildProcess, spawn } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { useCli } from './cliHarness.js';

const cli = useCli();

interface Started {
  child: ChildProcess;
  output: { stdout: string; stderr: string };
  /** Resolves with the exit status, or the signal. */
  ended: Promise<number | string>;
}

const running: Started[] = [];

afterEach(async () => {
  for (const { child, ended } of running.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await ended;
  }
});

/** `microdollar ...` as a process of its own. */
function launch(env: NodeJS.ProcessEnv, ...argv: string[]): Started {
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', ...argv], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    output.stdout += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    output.stderr += String(chunk);
  });
  const ended = new Promise<number | string>((resolve) => {
    child.on('close', (status, signal) => resolve(status ?? signal ?? ''));
  });
  const started = { child, output, ended };
  running.push(started);
  return started;
}

/** The URL once it is ready; fails with what it printed when it ends before. */
async function readyUrl({ child, output }: Started): Promise<string> {
  for (;;) {
    const url = /microdollar is ready: (\S+)[\s\S]*in a browser\n/.exec(output.stdout)?.[1];
    if (url !== undefined) return url;
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`start ended (${child.exitCode}): ${output.stderr}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const onTestDatabase = () => ({
  DATABASE_URL: cli.database.url,
  MICRODOLLAR_DATA_DIR: join(cli.dir, 'shared'),
});

describe('start on DATABASE_URL', () => {
  it('prints its URL and the admin key once, keeps it private, and ends on SIGTERM', async () => {
    const first = launch(onTestDatabase(), 'start');
    const url = await readyUrl(first);
    const keyFile = join(cli.dir, 'shared', 'admin-key');
    const key = (await readFile(keyFile, 'utf8')).trim();
    expect(first.output.stdout).toContain(`: ${key}\n`);
    expect((await stat(keyFile)).mode & 0o777).toBe(0o600);

    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const body = JSON.stringify({ id: 'ada' });
    const created = await fetch(`${url}/api/users`, { method: 'POST', headers, body });
    expect(created.ok).toBe(true);
    first.child.kill('SIGTERM');
    expect(await first.ended).toBe(0);
    expect(first.output.stderr).not.toContain(key);
    expect(first.output.stderr).toContain('"msg":"stopped"');

    const second = launch(onTestDatabase(), 'start');
    await readyUrl(second);
    expect(second.output.stdout).not.toContain('admin key');
    expect((await readFile(keyFile, 'utf8')).trim()).toBe(key);
    second.child.kill('SIGINT');
    expect(await second.ended).toBe(0);
  });

  it('says which port is in use and what to do, with status 3', async () => {
    const occupant = createServer();
    const port = await new Promise<number>((resolve) => {
      occupant.listen(0, '127.0.0.1', () => {
        const address = occupant.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
    try {
      const dataDir = join(cli.dir, 'unshown');
      const env = { ...onTestDatabase(), MICRODOLLAR_DATA_DIR: dataDir, PORT: String(port) };
      const run = launch(env, 'start', '--json');
      expect(await run.ended).toBe(3);
      const { error } = JSON.parse(run.output.stdout);
      expect(error.message).toMatch(new RegExp(`port ${port} .* in use; set PORT`));
      // The key was never shown: the next start makes one and shows it.
      expect(await readdir(dataDir)).not.toContain('admin-key');
    } finally {
      await new Promise((resolve) => occupant.close(resolve));
    }
  });
});

describe('start on the embedded server', () => {
  it('shares its database with commands, and its directory with no other start', async () => {
    const env = { MICRODOLLAR_DATA_DIR: join(cli.dir, 'embedded') };
    const first = launch(env, 'start');
    const url = await readyUrl(first);

    const status = launch(env, 'status', '--json');
    expect(await status.ended).toBe(0);
    expect(JSON.parse(status.output.stdout)).toMatchObject({
      database: 'embedded',
      server_url: url,
    });

    const demo = launch(env, 'demo', '--days', '2', '--users', '3', '--json');
    expect(await demo.ended).toBe(0);
    expect(JSON.parse(demo.output.stdout)).toMatchObject({ users: 3, drift_keys: 0, url });

    const second = launch(env, 'start');
    expect(await second.ended).toBe(3);
    expect(second.output.stderr).toContain(`in use: process ${first.child.pid} serves ${url}`);
    expect(await (await fetch(`${url}/healthz`)).ok).toBe(true);

    // Killed, it leaves a server and a runtime file: the next start takes them over.
    first.child.kill('SIGKILL');
    await first.ended;
    const third = launch(env, 'start');
    await readyUrl(third);
    third.child.kill('SIGTERM');
    expect(await third.ended).toBe(0);
    expect(await readdir(env.MICRODOLLAR_DATA_DIR)).not.toContain('runtime.json');
  });
});
