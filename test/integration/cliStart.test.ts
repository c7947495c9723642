import { once } from 'node:events';
import { appendFile, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import net from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { placesOf } from '../../src/db/embedded/cluster.js';
import { findPostmaster, waitUntilGone } from '../../src/db/embedded/postmaster.js';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import { startOtlpReceiver } from '../support/otlpReceiver.js';
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
    // A collector that takes connections and answers none keeps no process: not for an hour.
    const hole = net.createServer(() => {}).listen(0, '127.0.0.1');
    await once(hole, 'listening');
    const { port } = hole.address() as net.AddressInfo;
    const unanswered = {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_TIMEOUT: '3600000',
    };
    const first = launch({ ...onTestDatabase(), ...unanswered }, 'start');
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
    hole.close();
    expect(first.output.stderr).not.toContain(key);
    expect(first.output.stderr).toContain('"msg":"stopped"');

    const receiver = await startOtlpReceiver();
    // So that something in the background fails.
    const rename = (from: string, to: string) =>
      cli.database.pool.query(`alter function ${from} rename to ${to}`);
    await rename('microdollar_lookup_id', 'elsewhere');
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_SERVICE_NAME: 'ours',
    };
    const second = launch({ ...onTestDatabase(), ...env }, 'start');
    const secondUrl = await readyUrl(second);
    expect(second.output.stdout).not.toContain('admin key');
    expect((await readFile(keyFile, 'utf8')).trim()).toBe(key);
    const page = await fetch(`${secondUrl}/api/users/ada`, { headers });
    await page.text();
    await expect
      .poll(() => second.output.stderr)
      .toContain('housekeeping failed; it is tried again');
    await rename('elsewhere', 'microdollar_lookup_id');
    second.child.kill('SIGINT');
    expect(await second.ended).toBe(0);

    // What was queued has left before its end.
    expect(receiver.resource).toMatchObject({ 'service.name': 'ours' });
    const spans = receiver.spans.map(({ name, status }) => ({ name, status }));
    expect(spans).toContainEqual({ name: 'microdollar.background housekeeping', status: 2 });
    expect(receiver.spans.some(({ kind }) => kind === 2)).toBe(true);
    const errors = receiver.metrics.get('microdollar_background_errors_total');
    expect(errors?.points[0]?.attributes).toEqual({ task: 'housekeeping' });
    await receiver.close();
  });
});

describe('start on the embedded server', () => {
  it('shares its database with commands, and its directory with no other start', async () => {
    const env = { MICRODOLLAR_DATA_DIR: join(cli.dir, 'embedded') };
    await mkdir(env.MICRODOLLAR_DATA_DIR);
    copyMadeCluster(env.MICRODOLLAR_DATA_DIR);
    // Meant for another server: this one has no TLS.
    const first = launch({ ...env, PGSSLMODE: 'require' }, 'start');
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
    // No line of its log can be written, as on a full disk, and its terminal is closed.
    const under = ['sh', '-c', 'exec "$@" 2>/dev/full', 'sh'];
    const third = launchService(['start'], { env, under });
    const thirdUrl = await readyUrl(third);
    expect((await fetch(`${thirdUrl}/api/budgets`)).status).toBe(401);
    third.child.kill('SIGHUP');
    expect(await third.ended).toBe(0);
    expect(await readdir(env.MICRODOLLAR_DATA_DIR)).not.toContain('runtime.json');
    expect(findPostmaster(placesOf(env.MICRODOLLAR_DATA_DIR))).toBeNull();
  });

  it.each(['SIGINT', 'SIGHUP'] as const)(
    'does not outlive a command that %s ends while it starts',
    async (signal) => {
      const env = { MICRODOLLAR_DATA_DIR: join(cli.dir, `starting-${signal}`) };
      await mkdir(env.MICRODOLLAR_DATA_DIR);
      copyMadeCluster(env.MICRODOLLAR_DATA_DIR);
      const places = placesOf(env.MICRODOLLAR_DATA_DIR);
      // Nobody is let in for so long: the command is still starting, however late the test looks.
      await appendFile(join(places.cluster, 'postgresql.conf'), '\npost_auth_delay = 10\n');
      const command = launch(env, 'user', 'list');
      let pid = 0;
      while (pid === 0) {
        pid = findPostmaster(places)?.pid ?? 0;
        await sleep(1);
      }
      // As slow as one that recovers.
      process.kill(pid, 'SIGSTOP');
      command.child.kill(signal);
      expect(await command.ended).toBe(128 + constants.signals[signal]);
      expect(command.output.stderr).toContain(`interrupted (${signal})`);
      expect(await waitUntilGone(pid, 30_000)).toBe(true);
    },
  );
});
