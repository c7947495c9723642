/** A name that is mistyped: commands make no ledger where none is, and say what to do. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { runCommand } from './cliHarness.js';

const ID = '0b5e7c1a-5f5e-4d6f-9a51-3f2f8c1d0e02';
const COMMANDS = [
  'user create ada',
  'user delete ada',
  'org create acme',
  'key create --user ada',
  'credit add --user ada 20',
  'budget set user ada 5 --window total',
  `adjust ${ID} -- -1`,
  'alerts list',
  'fold',
  'demo --days 1',
  'import package.json --format jsonl',
  'status',
];

let dir: string;
let empty: TestDatabase;
let ledger: TestDatabase;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'microdollar-none-'));
  [empty, ledger] = await Promise.all([createTestDatabase({ empty: true }), createTestDatabase()]);
});

afterAll(async () => {
  await Promise.all([empty.drop(), ledger.drop()]);
  await rm(dir, { recursive: true, force: true, maxRetries: 3 });
});

describe.each(COMMANDS)('%s', (command) => {
  const run = (env: NodeJS.ProcessEnv) =>
    runCommand({ MICRODOLLAR_DATA_DIR: join(dir, 'data'), ...env }, ...command.split(' '));

  it('is refused in a database without a ledger, and leaves it so', async () => {
    expect(await run({ DATABASE_URL: empty.url })).toMatchObject({
      status: 3,
      stdout: '',
      stderr: expect.stringMatching(/^error: this database has no ledger: .*microdollar migrate/),
    });
    const { rows } = await empty.pool.query(
      `select from pg_class where relnamespace = 'public'::regnamespace`,
    );
    expect(rows).toEqual([]);
  });

  it('makes no schema of a name that is mistyped', async () => {
    const env = { DATABASE_URL: ledger.url, MICRODOLLAR_SCHEMA: 'typo' };
    expect(await run(env)).toMatchObject({
      status: 3,
      stdout: '',
      stderr: expect.stringMatching(/^error: there is no schema typo: run microdollar migrate/),
    });
    const { rows } = await ledger.pool.query(`select from pg_namespace where nspname = 'typo'`);
    expect(rows).toEqual([]);
  });
});

describe('the embedded database', () => {
  let server: EmbeddedPostgres;
  const env = () => ({ MICRODOLLAR_DATA_DIR: join(dir, 'embedded') });

  beforeAll(async () => {
    server = await startEmbeddedPostgres({ dataDir: env().MICRODOLLAR_DATA_DIR });
  });
  afterAll(() => server.stop());

  it('gets a ledger, and another schema, from `migrate` alone', async () => {
    const create = ['user', 'create', 'ada'] as const;
    expect((await runCommand(env(), ...create)).stderr).toContain('this database has no ledger');
    expect(await runCommand(env(), 'migrate')).toMatchObject({ status: 0 });
    expect(await runCommand(env(), ...create)).toMatchObject({ status: 0 });
    const mistyped = { ...env(), MICRODOLLAR_SCHEMA: 'typo' };
    for (const argv of [create, ['status'], ['verify']] as const) {
      expect(await runCommand(mistyped, ...argv)).toMatchObject({
        status: 3,
        stderr: expect.stringContaining('there is no schema typo'),
      });
    }
    const pool = openPool({ connectionString: server.url, max: 1 });
    const { rows } = await pool.query(`select from pg_namespace where nspname = 'typo'`);
    await pool.end();
    expect(rows).toEqual([]);
  });
});
