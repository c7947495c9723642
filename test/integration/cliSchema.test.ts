import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withoutSchema } from '../../src/db/ledgerSchema.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { asAdmin, createTestDatabase, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { endServices, launchService, readyUrl } from '../support/serviceProcess.js';
import { daysAgo } from './archiveHarness.js';
import { documentOf, runCommand } from './cliHarness.js';

/** Commands and a service, in a schema of a database that has a ledger in `public` too. */
const SCHEMA = 'Second ledger';
const COPY = 'COPY';
const READ_BACK = 'microdollar_schema_archive';
const KEY = 'admin-key-of-the-test';

let database: TestDatabase;
let dir: string;
let env: NodeJS.ProcessEnv;

const ask = async (...argv: string[]) => {
  const run = await runCommand(env, '--json', ...argv);
  return { status: run.status, document: documentOf(run) };
};

beforeAll(async () => {
  database = await createTestDatabase();
  dir = await mkdtemp(join(tmpdir(), 'microdollar-schema-'));
  env = {
    DATABASE_URL: withoutSchema(database.url),
    MICRODOLLAR_SCHEMA: SCHEMA,
    MICRODOLLAR_DATA_DIR: join(dir, 'data'),
  };
});

afterAll(async () => {
  await endServices();
  await asAdmin((client) => client.query(`drop database if exists ${READ_BACK} with (force)`));
  await database.drop();
  await rm(dir, { recursive: true, force: true });
});

describe('MICRODOLLAR_SCHEMA', () => {
  it('is refused where it is no name, before anything is done', async () => {
    const run = await runCommand({ ...env, MICRODOLLAR_SCHEMA: 'a"b' }, 'migrate');
    expect(run).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('MICRODOLLAR_SCHEMA must'),
    });
  });

  it('is what commands on a migrated database demand, and migrate makes', async () => {
    const status = await runCommand(env, 'status');
    expect(status).toMatchObject({
      status: 3,
      stderr: expect.stringContaining(`there is no schema ${SCHEMA}: run microdollar migrate`),
    });
    const plan = await runCommand(env, 'migrate', '--dry-run', '--sql');
    expect(plan.stdout).toContain('create schema "Second ledger"');
    expect((await ask('migrate')).document.applied).toContain('0000_ledger');
    expect((await ask('migrate')).document.applied).toEqual([]);
  });

  it('is where usage is written, folded, verified, built, archived and exported', async () => {
    await ask('user', 'create', 'ada');
    const lines = Array.from({ length: 40 }, (_, index) =>
      JSON.stringify({
        kilo_user_id: 'ada',
        cost: 100 + index,
        created_at: `${daysAgo(8 - (index % 8))}T12:00:00Z`,
      }),
    );
    const file = join(dir, 'usage.jsonl');
    await writeFile(file, lines.join('\n'));
    expect((await ask('import', file)).document).toMatchObject({ recorded: 40 });
    expect(await ask('fold')).toMatchObject({ status: 0 });
    expect(await ask('backfill')).toMatchObject({ status: 0 });
    expect(await ask('verify')).toMatchObject({ status: 0 });
    expect(await ask('verify', '--balances')).toMatchObject({ status: 0 });
    const archive = join(dir, 'archive');
    const archived = await ask('archive', '--until', daysAgo(7), '--out', archive);
    expect(archived).toMatchObject({ status: 0, document: { days: 2 } });
    // Into another database, where the schema means nothing.
    const read = await ask('archive', 'read', archive, '--database', READ_BACK);
    expect(read).toMatchObject({ status: 0, document: { events: 10 } });
    expect(await ask('verify')).toMatchObject({ status: 0 });
  });

  it('is in the URL for any client', async () => {
    const { document } = await ask('psql-url');
    const client = new pg.Client({ connectionString: document.url });
    await client.connect();
    const { rows } = await client.query('select count(*)::integer as n from microdollar_usage');
    await client.end();
    expect(rows).toEqual([{ n: 30 }]);
  });

  it('is dumped, and restored into another one of the same database', async () => {
    const dump = join(dir, 'dump');
    expect(await ask('dump', dump)).toMatchObject({ status: 0 });
    const manifest = JSON.parse(await readFile(join(dump, 'manifest.json'), 'utf8'));
    expect(manifest).toMatchObject({ schema: SCHEMA });
    env = { ...env, MICRODOLLAR_SCHEMA: COPY };
    expect(await ask('restore', dump)).toMatchObject({ status: 0 });
    expect(await ask('verify', '--balances')).toMatchObject({ status: 0 });
    expect(await runCommand(env, 'restore', dump)).toMatchObject({ status: 2 });
  });

  it('is where a service writes, which status tells from the others', async () => {
    env = { ...env, MICRODOLLAR_ADMIN_KEY: KEY };
    const url = await readyUrl(launchService(['start'], { env }));
    const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' };
    const events = [{ kilo_user_id: 'ada', cost: 5 }];
    const response = await fetch(`${url}/api/usage`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ events }),
    });
    const { results } = (await response.json()) as { results: { new_microdollars_used: number }[] };
    expect(results[0]?.new_microdollars_used).toBe(40 * 100 + 780 + 5);
    const here = (await ask('status')).document;
    expect(here).toMatchObject({ server_urls: [url] });
    env = { ...env, MICRODOLLAR_SCHEMA: SCHEMA };
    const there = (await ask('status')).document;
    expect(there).toMatchObject({ server_urls: [], ledger_connections: 0 });
    await endServices();
    for (const schema of [SCHEMA, COPY]) {
      env = { ...env, MICRODOLLAR_SCHEMA: schema };
      await ask('fold');
      const pool = openPool({ connectionString: (await ask('psql-url')).document.url, max: 1 });
      expect(await checkInvariants(pool)).toEqual([]);
      expect(await checkFolded(pool)).toEqual([]);
      await pool.end();
    }
    const { rows } = await database.pool.query('select count(*)::integer as n from kilocode_users');
    expect(rows).toEqual([{ n: 0 }]);
  });
});
