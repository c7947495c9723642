import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import { endServices, launchService, readyUrl } from '../support/serviceProcess.js';
import { useCli } from './cliHarness.js';

const cli = useCli();

afterEach(endServices);

const launch = (env: NodeJS.ProcessEnv, ...argv: string[]) => launchService(argv, { env });

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
});

describe('start on the embedded server', () => {
  it('shares its database with commands, and its directory with no other start', async () => {
    const env = { MICRODOLLAR_DATA_DIR: join(cli.dir, 'embedded') };
    await mkdir(env.MICRODOLLAR_DATA_DIR);
    copyMadeCluster(env.MICRODOLLAR_DATA_DIR);
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
