import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeRuntime, writeRuntime } from '../../src/cli/runtimeFile.js';
import { dumpLedger } from '../../src/db/dump/dump.js';
import type { DumpedTable, Manifest } from '../../src/db/dump/manifest.js';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.js';
import { createLedger } from '../../src/ledger.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { createSeedDatabase } from './adoptHarness.js';
import { runCommand, useCli } from './cliHarness.js';

const cli = useCli();
let server: EmbeddedPostgres | null = null;
let dump: string;

/** Settled and unsettled usage, an organization, a budget, a credit, lookups and a key. */
beforeAll(async () => {
  dump = join(cli.dir, 'dump');
  await cli.ask('user', 'create', 'ada');
  await cli.ask('user', 'create', 'bob\twith\\odd "name"');
  const org = (await cli.ask('org', 'create', 'acme')).document.id;
  await cli.ask('org', 'add-member', org, 'ada');
  await cli.ask('credit', 'add', '--user', 'ada', '20');
  await cli.ask('budget', 'set', 'user', 'ada', '5', '--window', 'total');
  await cli.ask('key', 'create', '--user', 'ada');
  const lines = Array.from({ length: 300 }, (_, index) =>
    JSON.stringify({
      kilo_user_id: index % 3 ? 'ada' : 'bob\twith\\odd "name"',
      ...(index % 5 === 1 ? { kilo_user_id: 'ada', organization_id: org } : {}),
      cost: 10 + index,
      created_at: new Date(Date.now() - index * 3_600_000).toISOString(),
      metadata: { feature: `feature ${index % 4}`, user_prompt_prefix: 'line\nbreak' },
    }),
  );
  await cli.ask('import', await cli.file('usage.jsonl', lines.join('\n')));
  // Behind every mark, as a writer leaves it that was not settled yet.
  await cli.database.pool.query(
    `insert into microdollar_usage (id, kilo_user_id, cost, position)
     select gen_random_uuid(), 'ada', 7, microdollar_position() from generate_series(1, 5)`,
  );
});

afterAll(() => server?.stop());

const reported = `select (select json_agg(b order by b.kilo_user_id) from kilocode_user_balances as b) as users,
  (select json_agg(o order by o.organization_id) from organization_balances as o) as organizations,
  (select sum(total_cost_microdollars) from microdollar_usage_daily_exact) as daily,
  (select count(*) from microdollar_usage_metadata) as metadata`;

describe('a dump', () => {
  it('is one snapshot in files of its owner alone, with a manifest that counts and proves', async () => {
    const { status, document } = await cli.ask('dump', dump);
    expect(status).toBe(0);
    expect(document.tables).toContainEqual({ name: 'microdollar_usage', rows: 305 });
    expect((await stat(dump)).mode & 0o777).toBe(0o700);
    expect((await stat(join(dump, 'manifest.json'))).mode & 0o777).toBe(0o600);
    const manifest = JSON.parse(await readFile(join(dump, 'manifest.json'), 'utf8'));
    expect(manifest).toMatchObject({ format: 'microdollar-dump', version: 1 });
    expect(manifest.tables.map(({ name }: { name: string }) => name)).toContain('ledger_settings');
  });

  it('goes into an empty directory only', async () => {
    const again = await cli.ask('dump', dump);
    expect(again).toMatchObject({ status: 2, document: { error: { code: 'invalid_request' } } });
  });

  it('leaves nothing on a disk that is full', async () => {
    const directory = join(cli.dir, 'made', 'for it');
    const client = new pg.Client({ connectionString: cli.database.url });
    await client.connect();
    const full = () => {
      expect(readdirSync(directory)).toHaveLength(1);
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC', syscall: 'write' });
    };
    await expect(dumpLedger(client, { directory, onTable: full })).rejects.toThrow('no space left');
    await client.end();
    expect(existsSync(join(cli.dir, 'made'))).toBe(false);
  });

  it('leaves what another has begun to write there', async () => {
    const directory = join(cli.dir, 'of two');
    const client = new pg.Client({ connectionString: cli.database.url });
    await client.connect();
    const files = ['organizations.copy.gz', 'manifest.json'].map((name) => join(directory, name));
    // Both have found it empty.
    const begun = () => files.map((file) => writeFileSync(file, 'of another'));
    await expect(dumpLedger(client, { directory, onDirectory: begun })).rejects.toThrow('EEXIST');
    await client.end();
    expect(readdirSync(directory)).toHaveLength(2);
    for (const file of files) expect(await readFile(file, 'utf8')).toBe('of another');
  });

  it('names columns of other programs, which it leaves out', async () => {
    await cli.database.pool.query('alter table organizations add column plan text');
    const run = await cli.ask('dump', join(cli.dir, 'other'));
    expect(run.document.left_out).toEqual(['organizations.plan']);
    await cli.database.pool.query('alter table organizations drop column plan');
  });
});

describe('restore', () => {
  it('refuses a database that is in use, and what is no dump', async () => {
    expect(await cli.ask('restore', dump)).toMatchObject({
      status: 2,
      document: { error: { message: expect.stringContaining('already') } },
    });
    expect((await cli.ask('restore', cli.dir)).document.error.message).toContain('no whole dump');
  });

  it('changes nothing where a file is damaged', async () => {
    const file = join(dump, 'credit_transactions.copy.gz');
    const whole = await readFile(file);
    await writeFile(file, gzipSync(gunzipSync(whole).toString().replaceAll('20', '21')));
    const empty = await createTestDatabase({ empty: true });
    try {
      const run = await runCommand({ DATABASE_URL: empty.url }, 'restore', dump);
      expect(run.status).toBe(3);
      expect(run.stderr).toContain('its SHA-256 differs; nothing was restored');
      const { rows } = await empty.pool.query(
        `select from pg_class where relnamespace = 'public'::regnamespace`,
      );
      expect(rows).toEqual([]);
    } finally {
      await empty.drop();
      await writeFile(file, whole);
    }
  });

  it('brings everything into a new cluster, exact, and begins a new generation', async () => {
    const env = { MICRODOLLAR_DATA_DIR: join(cli.dir, 'restored') };
    server = await startEmbeddedPostgres({ dataDir: env.MICRODOLLAR_DATA_DIR });
    const run = await runCommand(env, '--json', 'restore', dump);
    expect(JSON.parse(run.stdout)).toMatchObject({ generation_raised: true, warnings: [] });
    expect(run.status).toBe(0);

    const pool = openPool({ connectionString: server.url, max: 4 });
    const rowsOf = async (from: typeof pool) => (await from.query(reported)).rows;
    expect(await rowsOf(pool)).toEqual(await rowsOf(cli.database.pool));
    expect(await checkInvariants(pool)).toEqual([]);
    // Sequences go on behind the lookups that were restored.
    const usage = join(cli.dir, 'more.jsonl');
    await writeFile(
      usage,
      '{"kilo_user_id":"ada","cost":3,"metadata":{"feature":"another feature"}}',
    );
    expect((await runCommand(env, 'import', usage)).status).toBe(0);
    expect((await runCommand(env, 'fold')).status).toBe(0);
    expect((await runCommand(env, 'verify')).status).toBe(0);
    expect((await runCommand(env, 'verify', '--balances')).status).toBe(0);
    expect(await checkFolded(pool)).toEqual([]);
    const { rows } = await pool.query(
      `select count(distinct feature_id)::integer as n from feature`,
    );
    expect(rows).toEqual([{ n: 5 }]);
    await pool.end();
  });
});

describe('a manifest that was written by hand', () => {
  interface Written extends Manifest {
    [field: string]: unknown;
  }
  const firstTable = ({ tables }: Manifest) => tables[0] as DumpedTable & Record<string, unknown>;
  const changes: [string, (manifest: Written) => unknown][] = [
    ['tables.0.wider.nullable is missing', (m) => Object.assign(firstTable(m), { wider: {} })],
    ['tables.0.wider must be of type object', (m) => Object.assign(firstTable(m), { wider: null })],
    [
      'tables.0.wider.bigint names cost, which is not in columns',
      (m) => Object.assign(firstTable(m), { wider: { nullable: [], bigint: ['cost'] } }),
    ],
    ['tables.0.columns must have columns', (m) => Object.assign(firstTable(m), { columns: [] })],
    ['tables.0.name must be the name of', (m) => Object.assign(firstTable(m), { name: '../x' })],
    ['tables.0.rows must be of type number', (m) => Object.assign(firstTable(m), { rows: '1' })],
    ['tables.0 must be of type object', (m) => m.tables.splice(0, 1, null as never)],
    ['migrations must be of type array', (m) => Object.assign(m, { migrations: {} })],
    ['sequences is missing', (m) => delete (m as Partial<Written>).sequences],
    ['written_at is missing', (m) => delete (m as Partial<Written>).written_at],
  ];

  it('is refused where it names a table of another program, which stays as it is', async () => {
    const target = await createTestDatabase();
    await target.pool.query('create table theirs as select 1 as one');
    const manifest: Manifest = JSON.parse(await readFile(join(dump, 'manifest.json'), 'utf8'));
    manifest.tables.push({ name: 'theirs', columns: ['one'], rows: 0, sha256: '0'.repeat(64) });
    const directory = await mkdtemp(join(cli.dir, 'theirs '));
    await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest));
    const run = await runCommand({ DATABASE_URL: target.url }, 'restore', directory);
    expect(run).toMatchObject({ status: 2 });
    expect(run.stderr).toContain('names the table theirs');
    expect((await target.pool.query('select one from theirs')).rows).toEqual([{ one: 1 }]);
    await target.drop();
  });

  it.each(changes)('is refused by its field and with the remedy: %s', async (told, change) => {
    const manifest = JSON.parse(await readFile(join(dump, 'manifest.json'), 'utf8'));
    change(manifest);
    const directory = await mkdtemp(join(cli.dir, 'by hand '));
    await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest));
    const run = await runCommand({ DATABASE_URL: cli.database.url }, 'restore', directory);
    expect(run).toMatchObject({ status: 2 });
    expect(run.stderr).toContain(`manifest.json that no dump wrote: ${told}`);
    expect(run.stderr).toContain('or dump again');
  });
});

describe('restore into a database that was only looked at', () => {
  let looked: TestDatabase;
  const run = (...argv: string[]) => runCommand({ DATABASE_URL: looked.url }, ...argv);

  beforeAll(async () => {
    looked = await createTestDatabase();
    for (const look of ['status', 'backfill', 'verify', 'fold']) {
      expect(await run(look)).toMatchObject({ status: 0 });
    }
  });

  afterAll(() => looked.drop());

  it('waits for whoever serves it to be stopped', async () => {
    const ledger = await createLedger({ databaseUrl: looked.url, backgroundFold: false });
    try {
      await ledger.getPendingStatus();
      const refused = await run('restore', dump);
      expect(refused).toMatchObject({ status: 3 });
      expect(refused.stderr).toContain('a ledger is open on this database: stop `start` first');
    } finally {
      await ledger.close();
    }
  });

  it('puts everything into it, and then no second time', async () => {
    expect(await run('restore', dump)).toMatchObject({ status: 0 });
    const { rows } = await looked.pool.query(reported);
    expect(rows).toEqual((await cli.database.pool.query(reported)).rows);
    expect(await checkInvariants(looked.pool)).toEqual([]);
    const again = await run('restore', dump);
    expect(again).toMatchObject({ status: 2 });
    expect(again.stderr).toMatch(
      /the database has rows in \w+ already: restore into one that is new/,
    );
  });
});

describe('a data directory without a ledger', () => {
  const dir = () => join(cli.dir, 'mistyped', 'deeper');

  it.each([
    ['verify'],
    ['user list'],
    ['export --from 2026-01-01 --until 2026-01-02'],
    ['migrate --dry-run'],
    ['psql-url --hold'],
  ])('is named, and stays as it was: %s', async (command) => {
    const run = await runCommand({ MICRODOLLAR_DATA_DIR: dir() }, ...command.split(' '));
    expect(run).toMatchObject({ status: 3, stdout: '' });
    expect(run.stderr).toContain(`there is no ledger in ${dir()}: set MICRODOLLAR_DATA_DIR`);
    expect(existsSync(join(cli.dir, 'mistyped'))).toBe(false);
  });

  it('is not made for a dump that is none', async () => {
    const run = await runCommand({ MICRODOLLAR_DATA_DIR: dir() }, 'restore', cli.dir);
    expect(run).toMatchObject({ status: 2 });
    expect(existsSync(join(cli.dir, 'mistyped'))).toBe(false);
  });

  it('is that of a `start` with another database, which is said', async () => {
    const place = { dataDir: cli.dir, databaseUrl: cli.database.url };
    await writeRuntime(place, 'http://127.0.0.1:1');
    try {
      const run = await runCommand({ MICRODOLLAR_DATA_DIR: cli.dir }, 'status');
      expect(run).toMatchObject({ status: 3 });
      expect(run.stderr).toContain('has a DATABASE_URL; set the same one');
    } finally {
      await removeRuntime(place);
    }
  });
});

describe('psql-url', () => {
  it('is that of DATABASE_URL, or of another database beside it', async () => {
    expect((await cli.run('psql-url')).stdout).toBe(`${cli.database.url}\n`);
    const other = await cli.ask('psql-url', '--database', 'other');
    expect(new URL(other.document.url).pathname).toBe('/other');
  });

  it('says how to have a server where none runs', async () => {
    const run = await runCommand({ MICRODOLLAR_DATA_DIR: join(cli.dir, 'none') }, 'psql-url');
    expect(run.status).toBe(3);
    expect(run.stderr).toContain('psql-url --hold');
  });

  it('holds the server until Ctrl-C', async () => {
    const env = { MICRODOLLAR_DATA_DIR: join(cli.dir, 'restored') };
    const before = process.listeners('SIGINT');
    const running = runCommand(env, 'psql-url', '--hold');
    const own = () => process.listeners('SIGINT').filter((each) => !before.includes(each));
    await expect.poll(() => own().length).toBe(1);
    // The test's own use of the server is over: the command alone keeps it.
    await server?.stop();
    const pool = openPool({ connectionString: server?.url ?? '', max: 1 });
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    await pool.end();
    for (const listener of own()) listener('SIGINT');
    const run = await running;
    expect(run).toMatchObject({ status: 130, stdout: `${server?.url}\n` });
    expect(run.stderr).toContain('the server runs until Ctrl-C');
    expect(
      existsSync(join(env.MICRODOLLAR_DATA_DIR, 'postgres', 'cluster', 'postmaster.pid')),
    ).toBe(false);
  });
});

describe('a dump of a database that was adopted', () => {
  it('restores rows that new tables have no room for, in tables of the same shape', async () => {
    const adopted = await createSeedDatabase();
    const place = await createTestDatabase({ empty: true });
    try {
      // Past what new tables hold; and rows of before have neither user nor, some, a time.
      await adopted.pool.query('update microdollar_usage_metadata set max_tokens = 5000000000');
      await adopted.pool.query(
        `alter table microdollar_usage_metadata alter created_at drop not null`,
      );
      await adopted.pool.query(
        `update microdollar_usage_metadata set created_at = null where latency is null`,
      );
      const run = async (url: string, ...args: string[]) =>
        await runCommand({ DATABASE_URL: url, MICRODOLLAR_DATA_DIR: cli.dir }, '--json', ...args);
      expect((await run(adopted.url, 'migrate')).status).toBe(0);
      const directory = join(cli.dir, 'adopted');
      expect((await run(adopted.url, 'dump', directory)).status).toBe(0);
      expect(await run(place.url, 'restore', directory)).toMatchObject({ status: 0 });
      const tablesOf = async (of: string): Promise<DumpedTable[]> =>
        JSON.parse(await readFile(join(of, 'manifest.json'), 'utf8')).tables;
      for (const { name, columns } of await tablesOf(directory)) {
        if (!name.startsWith('microdollar_usage')) continue;
        const rows = `select ${columns.join(', ')} from ${name} order by id`;
        expect((await place.pool.query(rows)).rows).toEqual((await adopted.pool.query(rows)).rows);
      }
      expect((await place.pool.query(reported)).rows).toEqual(
        (await adopted.pool.query(reported)).rows,
      );
      expect((await run(place.url, 'backfill')).status).toBe(0);
      expect((await run(place.url, 'repair', '--balances')).status).toBe(0);
      expect(await checkInvariants(place.pool)).toEqual([]);
      const again = join(cli.dir, 'adopted again');
      expect((await run(place.url, 'dump', again)).status).toBe(0);
      const widerOf = async (of: string) =>
        (await tablesOf(of)).flatMap(({ name, wider }) => (wider ? [{ name, ...wider }] : []));
      expect(await widerOf(again)).toEqual(await widerOf(directory));
      expect(await widerOf(again)).toContainEqual({
        name: 'microdollar_usage_metadata',
        nullable: ['created_at', 'kilo_user_id'],
        bigint: ['max_tokens'],
      });
    } finally {
      await adopted.drop();
      await place.drop();
    }
  });
});
