import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { placesOf } from '../../src/db/embedded/cluster.js';
import { findPostmaster, waitUntilGone } from '../../src/db/embedded/postmaster.js';
import { copyMadeCluster } from '../support/copyMadeCluster.js';
import { endServices, launchService, readyUrl } from '../support/serviceProcess.js';
import { openSessions } from '../support/sessions.js';
import { useCli } from './cliHarness.js';

const cli = useCli();

afterEach(endServices);

const launch = (env: NodeJS.ProcessEnv, ...argv: string[]) => launchService(argv, { env });

it('a signal while another process migrates ends it in its time', async () => {
  const { pool, url } = cli.database;
  const { all } = await openSessions(url, 1);
  const [other] = all;
  // The lock of who migrates, and something to wait for it with.
  await other?.run('select pg_advisory_lock(7166471036291613811)');
  await pool.query(
    `delete from microdollar_migrations
     where created_at = (select max(created_at) from microdollar_migrations)`,
  );
  const env = {
    DATABASE_URL: url,
    MICRODOLLAR_DATA_DIR: join(cli.dir, 'waiting'),
    MICRODOLLAR_SHUTDOWN_MS: '500',
  };
  const service = launch(env, 'start');
  const isWaiting = async () => {
    const { rows } = await pool.query(
      `select from pg_stat_activity
       where application_name = 'microdollar migrate' and query like '%pg_try_advisory_lock%'
         and datname = current_database()`,
    );
    return rows.length > 0;
  };
  while (!(await isWaiting())) await sleep(20);
  service.child.kill('SIGTERM');
  expect(await service.ended).toBe(3);
  expect(service.output.stderr).toContain('the time to stop is up');
});

it.each([
  ['as soon as there is a place for it', ''],
  ['while initdb runs', 'base'],
])('a first start that ^C ends, %s, is no failure; the next one serves', async (_, sign) => {
  const env = { MICRODOLLAR_DATA_DIR: await mkdtemp(join(cli.dir, 'ended-')) };
  const service = launchService(['start'], { env, detached: true });
  const { root } = placesOf(env.MICRODOLLAR_DATA_DIR);
  const isThere = async () => {
    const names = await readdir(root).catch(() => []);
    return names.some((name) => existsSync(join(root, name, sign)));
  };
  while (!(await isThere())) await sleep(1);
  process.kill(-(service.child.pid ?? 0), 'SIGINT');
  expect(await service.ended).toBe(0);
  expect(service.output.stdout).toBe('');
  expect(service.output.stderr).toContain('a second signal ends it at once');
  expect(service.output.stderr).not.toContain('error:');
  await readyUrl(launch(env, 'start'));
});

it('an embedded server at another port is taken back; one that is lost is no success', async () => {
  const env = { MICRODOLLAR_DATA_DIR: join(cli.dir, 'embedded') };
  await mkdir(env.MICRODOLLAR_DATA_DIR);
  copyMadeCluster(env.MICRODOLLAR_DATA_DIR);
  const places = placesOf(env.MICRODOLLAR_DATA_DIR);
  const service = launch(env, 'start');
  const url = await readyUrl(service);
  const endServer = async () => {
    const pid = findPostmaster(places)?.pid ?? 0;
    process.kill(pid, 'SIGQUIT');
    expect(await waitUntilGone(pid, 30_000)).toBe(true);
  };

  // The command is there before the service has seen that its server is gone.
  service.child.kill('SIGSTOP');
  await endServer();
  const command = launch(env, 'psql-url', '--hold');
  await expect.poll(() => command.output.stdout, { timeout: 30_000 }).toContain('postgres://');
  service.child.kill('SIGCONT');
  await expect.poll(() => service.output.stderr, { timeout: 30_000 }).toContain('at another port');
  command.child.kill('SIGINT');
  await command.ended;
  await expect.poll(() => service.output.stderr, { timeout: 30_000 }).toContain('is back');
  const isReady = async () => (await fetch(`${url}/readyz`)).ok;
  await expect.poll(isReady, { timeout: 30_000 }).toBe(true);

  await rename(join(places.cluster, 'PG_VERSION'), join(places.cluster, 'PG_VERSION.away'));
  await endServer();
  expect(await service.ended).toBe(3);
  expect(service.output.stderr).toContain('cannot be started again');
  expect(service.output.stderr).toContain('is no whole cluster');
});
