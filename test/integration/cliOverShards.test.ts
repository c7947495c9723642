import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Environment } from '../../src/cli/environment.js';
import { placeOfStart, removeRuntime, writeRuntime } from '../../src/cli/runtimeFile.js';
import { readShardsFile } from '../../src/shards/shardsFile.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { expectShardsFolded } from '../support/expectShardsExact.js';
import { idOn } from '../support/shardIds.js';
import { daysAgo } from './archiveHarness.js';
import { documentOf, runCommand } from './cliHarness.js';

/** Two shards, of which the second is in a schema; commands are told of them by a file alone. */
const NAMES = ['home', 'b'] as const;

let dir: string;
let env: NodeJS.ProcessEnv;
let databases: TestDatabase[];
/** A user, and an organization, of each. */
const users = { home: idOn('home', NAMES), b: idOn('b', NAMES) };
const organizations = {
  home: idOn('home', NAMES, 'organization_id'),
  b: idOn('b', NAMES, 'organization_id'),
};

const run = (...argv: string[]) => runCommand(env, ...argv);
const ask = async (...argv: string[]) => {
  const { status, stdout, stderr } = await run('--json', ...argv);
  return { status, document: documentOf({ status, stdout, stderr }), stderr };
};
/** The parts of a document, by their shard. */
const askEach = async (...argv: string[]) => {
  const { status, document } = await ask(...argv);
  expect(document.shards.map(({ name }: { name: string }) => name)).toEqual([...NAMES]);
  const [home, b] = document.shards;
  return { status, home, b, document };
};
const shardsFile = async (name: string, urls: Record<string, string>): Promise<string> => {
  const file = join(dir, name);
  const shards = Object.entries(urls).map(([each, databaseUrl]) => ({ name: each, databaseUrl }));
  await writeFile(file, JSON.stringify(shards));
  return file;
};
/** Where a `start` of the shards notes that it serves. */
const place = () => {
  const shards = readShardsFile(env.MICRODOLLAR_SHARDS_FILE ?? '');
  return placeOfStart({ dataDir: join(dir, 'data'), databaseUrl: null, shards } as Environment);
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'microdollar-cli-shards-'));
  databases = [await createTestDatabase(), await createTestDatabase()];
  const [home, b] = databases as [TestDatabase, TestDatabase];
  env = {
    MICRODOLLAR_SHARDS_FILE: await shardsFile('shards.json', { home: home.url, b: b.url }),
    MICRODOLLAR_DATA_DIR: join(dir, 'data'),
  };
});

afterAll(async () => {
  await Promise.all(databases.map((database) => database.drop()));
  await rm(dir, { recursive: true, force: true });
});

describe('a shards file', () => {
  it('stands in place of a database, and is wanted where a shard is named', async () => {
    const both = { ...env, DATABASE_URL: databases[0]?.url };
    expect(await runCommand(both, 'status')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('DATABASE_URL and MICRODOLLAR_SHARDS_FILE exclude'),
    });
    const neither = { DATABASE_URL: databases[0]?.url };
    expect(await runCommand(neither, 'status', '--shard', 'b')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--shard goes with MICRODOLLAR_SHARDS_FILE'),
    });
    const unread = { MICRODOLLAR_SHARDS_FILE: join(dir, 'none.json') };
    expect(await runCommand(unread, 'status')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^error: MICRODOLLAR_SHARDS_FILE: .*none\.json cannot be read/),
    });
  });

  it('is refused while its databases are no shards, and migrate makes them such', async () => {
    const before = await ask('status');
    expect(before.status).toBe(2);
    expect(before.document.error.message).toContain('"home" is none yet: run');
    const dry = await askEach('migrate', '--dry-run');
    expect(dry.document.joined).toBeUndefined();
    const made = await askEach('migrate');
    expect(made).toMatchObject({ status: 0, document: { joined: ['home', 'b'] } });
    const again = await run('migrate');
    expect(again.status).toBe(0);
    expect(again.stdout).toMatch(/^home: nothing to apply/m);
    expect(again.stdout).toMatch(/^b: nothing to apply/m);
  });
});

describe('what is of a payer', () => {
  it('goes to its shard alone, and is answered as on one database', async () => {
    for (const shard of NAMES) {
      const created = await ask('user', 'create', users[shard], '--name', shard);
      expect(created).toMatchObject({ status: 0, document: { id: users[shard] } });
      await ask('org', 'create', `of ${shard}`, '--id', organizations[shard]);
    }
    const listed = await askEach('user', 'list');
    expect(listed.home.users).toMatchObject([{ id: users.home, name: 'home' }]);
    expect(listed.b.users).toMatchObject([{ id: users.b, name: 'b' }]);
    const made = (await run('org', 'create', 'whose id is made')).stdout.trim();
    expect((await ask('org', 'show', made)).document).toMatchObject({ id: made });
    const credit = await run('credit', 'add', '5', '--user', users.b);
    expect(credit.stdout).toBe(`added 5.000000 USD to ${users.b}; 5.000000 USD in all\n`);
    expect((await run('user', 'show', users.b)).stdout).toContain('of 5.000000 USD acquired');
    expect(await ask('user', 'show', 'nobody')).toMatchObject({
      status: 1,
      document: { error: { code: 'unknown_user' } },
    });
    expect(await run('user', 'show', users.b, '--shard', 'b')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('goes where its payers are'),
    });
  });

  it('may name a user of another shard', async () => {
    const add = ['org', 'add-member', organizations.b, users.home, '--role', 'owner'];
    expect(await ask(...add)).toMatchObject({ status: 0 });
    const members = (await ask('org', 'members', organizations.b)).document.members;
    expect(members).toMatchObject([{ kilo_user_id: users.home, role: 'owner' }]);
    const key = await ask('key', 'create', '--user', users.home, '--org', organizations.b);
    expect((await askEach('key', 'list')).b.keys).toMatchObject([{ id: key.document.id }]);
    const own = [{ id: key.document.id }];
    expect((await askEach('key', 'list', '--user', users.home)).b.keys).toMatchObject(own);
    const paid = await ask('key', 'list', '--org', organizations.b);
    expect(paid.document).toMatchObject({ keys: own });
    expect(await ask('key', 'list', '--user', 'nobody')).toMatchObject({ status: 1 });
    // Found by its id, wherever it is.
    const budget = ['budget', 'set', 'key', key.document.id, '20', '--window', 'month'];
    const { document } = await ask(...budget);
    expect((await askEach('budget', 'list')).b.budgets).toContainEqual(
      expect.objectContaining({ id: document.id, api_key_id: key.document.id }),
    );
    expect(await ask('budget', 'remove', document.id)).toMatchObject({ status: 0 });
    expect(await ask('key', 'revoke', key.document.id)).toMatchObject({ status: 0 });
    expect(await ask('key', 'revoke', organizations.b)).toMatchObject({ status: 1 });
  });
});

describe('usage', () => {
  it('is imported to where its payers are, with accounts that are made there', async () => {
    const lines = Array.from({ length: 40 }, (_, index) => {
      const shard = index % 2 === 0 ? 'home' : 'b';
      const organization_id = index % 4 === 1 ? organizations.home : null;
      return JSON.stringify({
        kilo_user_id: users[shard],
        organization_id,
        cost: 100 + index,
        created_at: `${daysAgo(8 - (index % 8))}T12:00:00Z`,
      });
    });
    const file = join(dir, 'usage.jsonl');
    await writeFile(file, lines.join('\n'));
    expect((await ask('import', file)).document).toMatchObject({ recorded: 40, rejected: 0 });
    expect((await ask('import', file)).document).toMatchObject({ duplicates: 40 });
    expect(await run('import', file, '--raw')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--raw asks no shard'),
    });
    const trace = join(dir, 'trace.csv');
    const rows = ['TIMESTAMP,ContextTokens,GeneratedTokens'];
    for (let row = 10; row < 30; row++) rows.push(`2026-01-01 00:00:${row}.0000000,${row},7`);
    await writeFile(trace, rows.join('\n'));
    const azure = [
      '--format',
      'azure-llm',
      '--users',
      '6',
      '--orgs',
      '2',
      '--shift-to',
      daysAgo(1),
    ];
    const imported = await ask('import', trace, ...azure);
    expect(imported).toMatchObject({ status: 0, document: { recorded: 20 } });
    const again = await ask('import', trace, ...azure);
    expect(again).toMatchObject({ status: 0, document: { duplicates: 20 } });
  });

  it('is folded, built, verified, told, and switched, each shard with an answer of its own', async () => {
    const folded = await askEach('fold', '--parallel', '1');
    expect(folded).toMatchObject({ status: 0, home: { remaining: 0 } });
    const built = await run('backfill', '--progress', 'json');
    expect(built.stdout).toMatch(/^home: next: /m);
    expect(built.stdout).toMatch(/^b: next: /m);
    const progress = built.stderr.split('\n').filter((line) => line !== '');
    const told = new Set(progress.map((line) => JSON.parse(line).shard));
    expect([...told].sort()).toEqual(['b', 'home']);
    const verified = await askEach('verify');
    expect(verified).toMatchObject({ status: 0, home: { drift_keys: 0 }, b: { drift_keys: 0 } });
    const status = await askEach('status');
    expect(status.b.database).toBe('shard b');
    const single = (await ask('status', '--shard', 'b')).document;
    expect(single).toMatchObject({ database: 'shard b', usage: status.b.usage });
    const served = { server_urls: ['http://127.0.0.1:9000'] };
    await mkdir(place().dataDir, { recursive: true });
    await writeRuntime(place(), 'http://127.0.0.1:9000');
    expect(await askEach('status')).toMatchObject({ home: served, b: served });
    await removeRuntime(place());
    expect(status.home.usage.rows + status.b.usage.rows).toBe(60);
    const mode = await askEach('read-mode', 'shadow');
    expect(mode).toMatchObject({ home: { read_mode: 'shadow' }, b: { read_mode: 'shadow' } });
    const report = await ask('report', '--user', users.home, '--from', daysAgo(9));
    expect(report.document.total.requests).toBe(20);
    await ask('price-unpriced');
  });

  it('that is wrong on one shard makes the whole wrong, and is repaired there', async () => {
    const damage =
      'update kilocode_users set microdollars_used = microdollars_used + 7 where id = $1';
    await databases[1]?.pool.query(damage, [users.b]);
    const found = await askEach('verify', '--balances');
    expect(found).toMatchObject({
      status: 1,
      home: { exit_status: 0 },
      b: { exit_status: 1, drifted: 1 },
    });
    const repaired = await askEach('repair', '--balances');
    expect(repaired).toMatchObject({ home: { repaired: 0 }, b: { repaired: 1 } });
    expect(await askEach('verify', '--balances')).toMatchObject({ status: 0 });
  });

  it('is adjusted where it is', async () => {
    const { rows } = (await databases[1]?.pool.query(
      'select id from microdollar_usage where kilo_user_id = $1 limit 1',
      [users.b],
    )) ?? { rows: [] };
    const adjusted = await ask('adjust', rows[0].id, '-0.000010');
    expect(adjusted).toMatchObject({ status: 0, document: { kilo_user_id: users.b, cost: -10 } });
    expect(await ask('adjust', organizations.b, '-1')).toMatchObject({ status: 1 });
  });

  it('is exported, archived and dumped into a place for each shard', async () => {
    const days = ['--from', daysAgo(9), '--until', daysAgo(0)];
    expect(await run('export', ...days)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('named with --shard'),
    });
    const out = join(dir, 'usage.csv');
    const exported = await askEach('export', ...days, '--out', out);
    expect(exported.home.rows + exported.b.rows).toBe(61);
    expect(exported.b.file).toBe(join(dir, 'usage.b.csv'));
    expect((await readFile(exported.b.file, 'utf8')).split('\n').length).toBeGreaterThan(10);
    const streamed = await ask('export', ...days, '--shard', 'b');
    expect(streamed.document).toMatchObject({ rows: exported.b.rows });
    // Whom one shard alone knows.
    const only = idOn('b', NAMES);
    await ask('user', 'create', only);
    const again = ['export', ...days, '--out', out, '--overwrite'];
    const own = await ask(...again, '--user', only);
    expect(own).toMatchObject({ status: 0, document: { shards: [{ name: 'b' }] } });
    expect((await ask(...again, '--user', 'nobody')).status).toBe(1);
    expect((await ask(...again, '--org', organizations.b)).document.file).toBe(exported.b.file);

    const archive = join(dir, 'archive');
    const archived = await askEach('archive', '--until', daysAgo(5), '--out', archive);
    expect(archived).toMatchObject({ status: 0, b: { out: join(archive, 'b') } });
    expect((await readdir(archive)).sort()).toEqual(['b', 'home']);
    const whole = await askEach(...again, '--archive', archive);
    expect(whole).toMatchObject({ status: 0, home: { rows: exported.home.rows } });
    const dump = join(dir, 'dump');
    expect(await askEach('dump', dump)).toMatchObject({ status: 0, b: { left_out: [] } });
    expect((await readdir(dump)).sort()).toEqual(['b', 'home']);
  });
});

it('a signal ends it on the shards where it runs, and keeps it from the others', async () => {
  const before = process.listeners('SIGINT');
  const running = ask('verify', '--parallel', '1');
  const own = () => process.listeners('SIGINT').filter((listener) => !before.includes(listener));
  while (own().length === 0) await new Promise(setImmediate);
  for (const listener of own()) listener('SIGINT');
  const { status, document } = await running;
  expect(status).toBe(130);
  expect(document.shards).toMatchObject([
    { name: 'home', exit_status: 130 },
    { name: 'b', exit_status: 3, error: { message: expect.stringContaining('not begun') } },
  ]);
});

it('a payer who has moved is found where they are', async () => {
  const id = idOn('b', NAMES);
  await ask('user', 'create', id);
  await ask('credit', 'add', '2', '--user', id);
  const alert = await ask('alerts', 'set', 'balance', '--user', id, '--below', '1');
  const key = await ask('key', 'create', '--user', id);
  expect(await run('shards', 'move', '--user', id, '--to', 'home')).toMatchObject({ status: 0 });
  expect((await ask('user', 'show', id)).document.total_microdollars_acquired).toBe(2_000_000);
  const listed = await askEach('alerts', 'list');
  expect(listed.home.alerts).toContainEqual(expect.objectContaining({ id: alert.document.id }));
  expect(listed.b.alerts).toEqual([]);
  expect(await ask('alerts', 'delete', alert.document.id)).toMatchObject({ status: 0 });
  const report = await ask('report', '--key', key.document.id);
  expect(report).toMatchObject({ status: 0, document: { total: { requests: 0 } } });
  expect(await ask('key', 'revoke', key.document.id)).toMatchObject({ status: 0 });
});

it('what cannot be over shards says so by its name', async () => {
  for (const argv of [['demo', '--yes'], ['psql-url'], ['restore', join(dir, 'dump')]]) {
    const refused = await run(...argv);
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining(`${argv[0]} `) });
  }
  const lost = await run('restore', join(dir, 'nothing'), '--shard', 'b');
  expect(lost.stderr).toContain(join(dir, 'nothing', 'b'));
  const url = (await run('psql-url', '--shard', 'b')).stdout.trim();
  expect(url).toBe(databases[1]?.url);
  expect(await run('fold', '--shard', 'c')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('which are home, b'),
  });
});

it('a user is deleted on every shard that knows them', async () => {
  expect(await ask('user', 'delete', users.home)).toMatchObject({
    status: 0,
    document: { deleted: true },
  });
  const deleted = 'select deleted_at is not null as is_deleted from kilocode_users where id = $1';
  for (const { pool } of databases) {
    expect((await pool.query(deleted, [users.home])).rows).toEqual([{ is_deleted: true }]);
  }
});

it('each is exact, and each payer on one', async () => {
  await ask('fold');
  await expectShardsFolded(
    databases.map(({ pool }, index) => ({ name: NAMES[index] ?? '', pool })),
  );
});

it('behind poolers only what holds a lock of its session is refused, with the remedy', async () => {
  const pooled = { ...env, MICRODOLLAR_POOLER: 'transaction' };
  expect(await runCommand(pooled, 'user', 'show', users.b)).toMatchObject({ status: 0 });
  expect(await runCommand(pooled, 'fold')).toMatchObject({ status: 0 });
  const refused = await runCommand(pooled, 'migrate');
  expect(refused).toMatchObject({ status: 2 });
  expect(refused.stderr).toMatch(/^b: error: .*unset MICRODOLLAR_POOLER/m);
});

describe('a shard that is away', () => {
  let away: NodeJS.ProcessEnv;

  beforeAll(async () => {
    const gone = new URL(databases[1]?.url ?? '');
    gone.port = '1';
    const file = await shardsFile('away.json', { home: databases[0]?.url ?? '', b: gone.href });
    away = { ...env, MICRODOLLAR_SHARDS_FILE: file };
  });

  it('is named, and the rest is done', async () => {
    const folded = await runCommand(away, '--json', 'fold');
    expect(folded.status).toBe(3);
    expect(documentOf(folded).shards).toMatchObject([
      { name: 'home', exit_status: 0, remaining: 0 },
      { name: 'b', exit_status: 3, error: { code: 'unavailable' } },
    ]);
    const told = await runCommand(away, 'migrate');
    expect(told.status).toBe(3);
    expect(told.stdout).toMatch(/^home: nothing to apply/m);
    expect(told.stdout).toMatch(/^no shard has joined: b first/m);
    expect(told.stderr).toMatch(/^b: error: cannot use the database at .*; check the shards file/m);
  });

  it('takes down its payers, and nobody else', async () => {
    const show = (id: string) => runCommand(away, 'org', 'show', id);
    expect(await show(organizations.home)).toMatchObject({ status: 0 });
    expect(await show(organizations.b)).toMatchObject({
      status: 3,
      stderr: expect.stringContaining('shard "b"'),
    });
    const imported = await runCommand(away, '--json', 'import', join(dir, 'usage.jsonl'));
    expect(imported.status).toBe(3);
    expect(documentOf(imported).error).toMatchObject({ details: { shard: 'b' } });
    // It may be there.
    const revoked = await runCommand(away, 'key', 'revoke', organizations.b);
    expect(revoked).toMatchObject({ status: 3, stderr: expect.stringContaining('shard "b"') });
  });
});

it('one database that is named twice, or as another shard, is refused', async () => {
  const [home, b] = databases.map(({ url }) => url) as [string, string];
  for (const [file, urls, problem] of [
    ['twice.json', { home, b: home }, 'are one database'],
    ['other.json', { home, c: b }, '"c" is "b" by what its database says'],
    ['fewer.json', { home }, 'lack b'],
  ] as const) {
    const wrong = { ...env, MICRODOLLAR_SHARDS_FILE: await shardsFile(file, urls) };
    expect(await runCommand(wrong, 'fold')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining(problem),
    });
  }
});

it('is told in the order of the file, whichever shard answers first', async () => {
  const holder = await databases[0]?.pool.connect();
  try {
    await holder?.query('begin; lock table organizations in access exclusive mode');
    const running = run('org', 'list');
    const { pool } = databases[1] as TestDatabase;
    // The second has answered, and the first waits.
    const listed = async () =>
      (
        await pool.query(
          `select from pg_stat_activity
           where datname = current_database() and application_name like 'microdollar command%'`,
        )
      ).rowCount;
    const blocked = async () =>
      (await holder?.query('select from pg_locks where not granted and relation is not null'))
        ?.rowCount;
    await expect.poll(blocked).toBe(1);
    await expect.poll(listed).toBe(1);
    await holder?.query('rollback');
    const { stdout, status } = await running;
    expect(status).toBe(0);
    const shards = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(':')[0]);
    expect(shards).toEqual([...shards].sort().reverse());
    expect(new Set(shards)).toEqual(new Set(NAMES));
  } finally {
    holder?.release();
  }
});

it('while home is away says where it would be', async () => {
  const away = { home: 'postgres://nobody@127.0.0.1:1/none', b: databases[1]?.url ?? '' };
  const file = await shardsFile('away.json', away);
  const shown = await runCommand(
    { ...env, MICRODOLLAR_SHARDS_FILE: file },
    'user',
    'show',
    users.b,
  );
  expect(shown).toMatchObject({ status: 3, stdout: '' });
  expect(shown.stderr).toMatch(
    /^error: cannot use the database at 127\.0\.0\.1:1\/none: shard "home": .*the shards file/,
  );
});
