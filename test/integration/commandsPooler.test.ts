import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runCli } from '../../src/cli/program.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { type Pooler, startPooler } from '../support/pooler/transactionPooler.js';
import { documentOf, runCommand } from './cliHarness.js';

/**
 * Every command behind a pooler in transaction mode that refuses what connections ask for at their
 * start, as pgbouncer does unless it is told otherwise. Fewer connections than a command opens.
 */
const DAYS = ['--from', '2026-01-01', '--until', '2026-01-05'];

let database: TestDatabase;
let pooler: Pooler;
let dir: string;
const used = new Set<string>();

beforeAll(async () => {
  database = await createTestDatabase();
  pooler = await startPooler(database.url, { poolSize: 2 });
  dir = await mkdtemp(join(tmpdir(), 'microdollar-commands-'));
});

afterAll(async () => {
  await pooler.stop();
  await database.drop();
  await rm(dir, { recursive: true, force: true });
});

async function ask(...argv: string[]) {
  used.add(argv[0] ?? '');
  const run = await runCommand(
    {
      DATABASE_URL: pooler.url,
      MICRODOLLAR_POOLER: 'transaction',
      MICRODOLLAR_DATA_DIR: dir,
    },
    '--json',
    ...argv,
  );
  expect([argv.join(' '), run.stderr]).toEqual([argv.join(' '), '']);
  expect(run.status).toBe(0);
  return documentOf(run);
}

it('accounts, credit and keys', async () => {
  await ask('user', 'create', 'ada');
  await ask('user', 'create', 'bob');
  await ask('user', 'delete', 'bob');
  const org = await ask('org', 'create', 'lab');
  await ask('org', 'add-member', org.id, 'ada');
  await ask('credit', 'add', '--user', 'ada', '20');
  const budget = await ask('budget', 'set', 'user', 'ada', '5', '--window', 'day');
  await ask('budget', 'raise', budget.id, '1', '--until', '2999-01-01T00:00:00Z');
  expect((await ask('budget', 'list')).budgets).toHaveLength(2);
  const alert = await ask('alerts', 'set', 'budget', '--budget', budget.id);
  expect((await ask('alerts', 'list')).alerts).toMatchObject([{ id: alert.id }]);
  await ask('alerts', 'set', 'balance', '--user', 'ada', '--below', '50');
  expect((await ask('alerts', 'deliveries')).deliveries).toMatchObject([{ kind: 'balance' }]);
  await ask('alerts', 'delete', alert.id);
  await ask('budget', 'remove', budget.id);
  const key = await ask('key', 'create', '--user', 'ada', '--scope', 'gateway');
  await ask('key', 'list');
  await ask('key', 'revoke', key.id);
});

it('usage in and out', async () => {
  const file = join(dir, 'usage.jsonl');
  const rows = Array.from({ length: 40 }, (_, index) => ({
    kilo_user_id: 'ada',
    cost: 10 + index,
    created_at: `2026-01-0${1 + (index % 5)}T12:00:00Z`,
  }));
  await writeFile(file, rows.map((row) => JSON.stringify(row)).join('\n'));
  expect(await ask('import', file)).toMatchObject({ recorded: 40 });
  await ask('fold');
  expect(await ask('export', ...DAYS)).toMatchObject({ rows: 40 });
  expect(await ask('report', '--user', 'ada', ...DAYS)).toMatchObject({ total: { requests: 40 } });
  expect(await ask('top', ...DAYS)).toMatchObject({ payer_count: 1 });
  const { rows: usage } = await database.pool.query('select id from microdollar_usage limit 1');
  await ask('adjust', usage[0].id, '0.000005');
  await ask('price-unpriced');
  await ask('dead-letters');
});

it('jobs on the rollup', async () => {
  await ask('backfill', '--dry-run');
  await ask('backfill', '--pause');
  await ask('backfill', '--resume');
  await ask('backfill', ...DAYS);
  expect(await ask('verify', ...DAYS)).toMatchObject({ drift_keys: 0 });
  await ask('verify', '--balances');
  await ask('repair', '--dry-run', ...DAYS);
  expect(await ask('repair', ...DAYS)).toMatchObject({ repaired: 0 });
  await ask('repair', '--balances');
  expect(await ask('read-mode', 'shadow')).toMatchObject({ read_mode: 'shadow' });
  await ask('read-mode', '--compare', '1');
  await ask('status');
});

it('the archive', async () => {
  const out = ['--until', '2026-01-05', '--out', join(dir, 'archive')];
  await ask('archive', ...out, '--dry-run');
  expect(await ask('archive', ...out)).toMatchObject({ rows: 40, days_left: [] });
  expect(await ask('verify', ...DAYS)).toMatchObject({ drift_keys: 0 });
});

it('a dump, and what needs the server itself', async () => {
  expect(await ask('dump', join(dir, 'dump'))).toMatchObject({ left_out: [] });
  expect(await ask('psql-url')).toEqual({ url: pooler.url });
  used.add('restore');
  const env = { DATABASE_URL: pooler.url, MICRODOLLAR_POOLER: 'transaction' };
  const run = await runCommand(env, 'restore', join(dir, 'dump'));
  expect(run.stderr).toContain('MICRODOLLAR_MIGRATION_URL');
});

it('the demo', async () => {
  const size = ['--no-serve', '--days', '2', '--users', '2'];
  expect(await ask('demo', '--yes', ...size)).toMatchObject({
    drift_keys: 0,
  });
});

it('migrate is refused, with the remedy', async () => {
  used.add('migrate');
  const env = { DATABASE_URL: pooler.url, MICRODOLLAR_POOLER: 'transaction' };
  const run = await runCommand(env, 'migrate');
  expect(run.status).toBe(2);
  expect(run.stderr).toContain('MICRODOLLAR_MIGRATION_URL');
  const owner = { ...env, MICRODOLLAR_MIGRATION_URL: database.url };
  expect(await runCommand(owner, 'migrate')).toMatchObject({ status: 0 });
});

it('no command was left out', async () => {
  let help = '';
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      help += String(chunk);
      done();
    },
  });
  await runCli(['--help'], { stdout, stderr: stdout }, {});
  const commands = [...help.matchAll(/^ {2}([a-z][a-z-]+) /gm)].map(([, name]) => name);
  // `start` has a test of its own; a benchmark is no work on a database of somebody's; payers are moved past
  // poolers.
  const elsewhere = ['start', 'bench', 'help', 'shards'];
  expect([...used, ...elsewhere].sort()).toEqual([...new Set([...commands, ...elsewhere])].sort());
});
