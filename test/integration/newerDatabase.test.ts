import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { migrateBeyond } from '../support/migrateUntil.js';
import { runCommand } from './cliHarness.js';

/** Every command, as somebody would call it; FILE is one with usage. */
const COMMANDS = [
  'start',
  'migrate',
  'migrate --dry-run',
  'user create u',
  'user delete u',
  'user list',
  'user show u',
  'org create o',
  'org list',
  'key create --user u',
  'key list',
  'credit add --user u 1',
  'credit list',
  'budget list',
  'budget set user u 5 --window day',
  'alerts list',
  'alerts set balance --user u --below 1',
  'alerts deliveries',
  'alerts webhook list',
  'adjust 11111111-1111-1111-1111-111111111111 1',
  'import FILE',
  'export --from 2026-01-01 --until 2026-01-02',
  'report --user u',
  'top',
  'fold',
  'backfill',
  'verify',
  'repair',
  'archive --until 2026-01-01 --out DIR',
  'read-mode raw',
  'price-unpriced',
  'dead-letters --retry',
  'dump DIR/out',
  'status',
  'demo',
] as const;
/** Run on servers of their own, on an empty database, or on none. */
const OWN_SERVERS = ['bench', 'restore', 'psql-url', 'shards'];

let database: TestDatabase;
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'microdollar-newer-'));
  await writeFile(path.join(dir, 'usage.jsonl'), '{"kilo_user_id":"u","cost":1}\n');
  database = await createTestDatabase({ empty: true });
  await migrateBeyond(database.url, {
    tag: '9999_newer',
    sql: `update ledger_settings
      set breaking_migrations = array_append(breaking_migrations, '9999_newer')`,
  });
});

afterAll(async () => {
  await database.drop();
  await rm(dir, { recursive: true });
});

const run = (command: string) =>
  runCommand(
    { DATABASE_URL: database.url, MICRODOLLAR_DATA_DIR: dir, PORT: '0' },
    ...command.replace('FILE', path.join(dir, 'usage.jsonl')).replace('DIR', dir).split(' '),
  );

describe('a database that is newer by a breaking migration', () => {
  it.each(COMMANDS)('is refused by `%s`, with the remedy', async (command) => {
    const { status, stderr } = await run(command);
    expect(stderr).toContain('upgrade this program');
    expect(stderr).not.toContain('DATABASE_URL');
    expect(status).toBe(3);
  });

  it('is refused by every command that there is', async () => {
    const help = await run('--help');
    const listed = help.stdout.split('Commands:')[1] ?? '';
    const names = [...listed.matchAll(/^ {2}([\w-]+)/gm)].map((match) => match[1] ?? '');
    const covered = new Set([
      ...COMMANDS.map((each) => each.split(' ')[0]),
      ...OWN_SERVERS,
      'help',
    ]);
    expect(names.length).toBeGreaterThan(15);
    expect(names.filter((name) => !covered.has(name))).toEqual([]);
  });

  it('is refused by createLedger', async () => {
    await expect(createLedger({ databaseUrl: database.url })).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('upgrade this program'),
    });
  });
});
