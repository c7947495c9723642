import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { runCommand, useCli } from './cliHarness.js';

const cli = useCli();

beforeAll(async () => {
  await cli.ask('user', 'create', '=cmd()');
  await cli.ask('user', 'create', 'ada', '--email', 'ada@example.com');
  const days = ['2026-10-31T23:59:59.999999Z', '2026-11-01T00:00:00Z', '2026-11-02T23:59:59.9Z'];
  const events = days.flatMap((created_at) => [
    { kilo_user_id: 'ada', cost: 1_000_000, created_at, model: '-gpt' },
    { kilo_user_id: '=cmd()', cost: -250_000, created_at },
  ]);
  const lines = events.map((event) => JSON.stringify(event)).join('\n');
  await cli.ask('import', await cli.file('usage.jsonl', lines));
});

describe('accounts', () => {
  it('are created once, credited, given keys, and deleted softly', async () => {
    const org = await cli.ask('org', 'create', 'acme');
    expect(org.document).toMatchObject({
      name: 'acme',
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect((await cli.ask('org', 'add-member', org.document.id, 'ada')).status).toBe(0);
    const again = await cli.ask('user', 'create', 'ada');
    expect(again).toMatchObject({ status: 1, document: { error: { code: 'already_exists' } } });

    const credit = await cli.ask('credit', 'add', '--user', 'ada', '12.5');
    expect(credit.document).toMatchObject({ amount_microdollars: 12_500_000 });
    const key = await cli.ask('key', 'create', '--user', 'ada', '--scope', 'usage:read');
    expect(key.document).toMatchObject({ scopes: ['usage:read'], key: expect.any(String) });
    expect((await cli.run('key', 'list')).stdout).not.toContain(key.document.key);
    expect((await cli.ask('key', 'revoke', key.document.id)).status).toBe(0);
    expect((await cli.run('key', 'list')).stdout).toMatch(/revoked/);

    const long = 'x'.repeat(200);
    await cli.ask('user', 'create', long);
    await cli.ask('key', 'create', '--user', long);
    const { stdout } = await cli.run('key', 'list');
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThan(170);
    expect((await cli.ask('key', 'list')).document.keys).toContainEqual(
      expect.objectContaining({ kilo_user_id: long }),
    );

    expect((await cli.ask('user', 'create', 'gone')).status).toBe(0);
    expect((await cli.ask('user', 'delete', 'gone')).status).toBe(0);
    const unknown = await cli.ask('user', 'delete', 'nobody');
    expect(unknown).toMatchObject({ status: 1, document: { error: { code: 'unknown_user' } } });
  });

  it('say the amount that was added, not the one that was asked for', async () => {
    expect((await cli.run('user', 'create', 'penny')).status).toBe(0);
    const add = async (usd: string) =>
      (await cli.run('credit', 'add', '--user', 'penny', usd)).stdout;
    expect(await add('0.0000014')).toBe('added 0.000001 USD to penny; 0.000001 USD in all\n');
    expect(await add('1000')).toBe('added 1000.000000 USD to penny; 1000.000001 USD in all\n');
    expect(await add('-5')).toBe('added -5.000000 USD to penny; 995.000001 USD in all\n');
  });

  it.each([
    [['credit', 'add', '--user', 'ada', '1e9'], 'not an amount in USD: 1e9; write it like 12.50'],
    [['adjust', randomUUID(), '1E3'], 'not an amount in USD: 1E3; write it like 12.50'],
    [['budget', 'set', 'user', 'ada', '1e9', '--window', 'day'], 'must be an amount in USD'],
    [['alerts', 'set', 'balance', '--user', 'ada', '--below', '1e3'], 'must be an amount in USD'],
  ])('take no exponent in an amount: %s', async (argv, said) => {
    const { status, stderr } = await cli.run(...argv);
    expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining(said) });
  });

  it('of one user, and of one organization, are listed', async () => {
    await cli.run('user', 'create', 'keyed');
    const org = (await cli.ask('org', 'create', 'keyed')).document.id;
    await cli.run('org', 'add-member', org, 'keyed');
    const own = (await cli.ask('key', 'create', '--user', 'keyed')).document.id;
    const billed = (await cli.ask('key', 'create', '--user', 'keyed', '--org', org)).document.id;
    const listed = async (...argv: string[]) =>
      (await cli.ask('key', 'list', ...argv)).document.keys.map((key: { id: string }) => key.id);
    expect((await listed('--user', 'keyed')).sort()).toEqual([own, billed].sort());
    expect(await listed('--org', org)).toEqual([billed]);
    expect(await cli.run('key', 'list', '--user', 'nobody')).toMatchObject({
      status: 1,
      stderr: 'error: --user names no user\n',
    });
    expect(await cli.run('key', 'list', '--org', randomUUID())).toMatchObject({ status: 1 });
    const { stdout } = await cli.run('key', 'list', '--user', 'keyed');
    expect(stdout).toMatch(new RegExp(`${billed} +md_\\S+ +keyed +${org} `));
    expect(stdout).toMatch(new RegExp(`${own} +md_\\S+ +keyed +usage:`));
    const both = await cli.run('key', 'list', '--user', 'keyed', '--org', org);
    expect(both).toMatchObject({ status: 2, stderr: expect.stringContaining('exactly one') });
  });

  it('are listed and shown, with what they used', async () => {
    const org = await cli.ask('org', 'create', 'listed');
    await cli.ask('org', 'add-member', org.document.id, 'ada', '--role', 'owner');
    const users = await cli.ask('user', 'list');
    expect(users.document).toMatchObject({ has_more: false });
    expect(users.document.users).toContainEqual(
      expect.objectContaining({ id: 'ada', microdollars_used: 3_000_000, deleted_at: null }),
    );
    const after = await cli.ask('user', 'list', '--after', 'ada');
    expect(after.document.users.map(({ id }: { id: string }) => id)).not.toContain('ada');
    expect((await cli.run('user', 'show', 'ada')).stdout).toMatch(
      /^ada: 3\.000000 USD used of [0-9.]+ USD acquired\n$/,
    );
    expect((await cli.run('org', 'list')).stdout).toMatch(/listed +1 +0\.000000 +0\.000000/);
    expect((await cli.run('org', 'show', org.document.id)).stdout).toBe(
      'listed: 0.000000 USD used of 0.000000 USD acquired; members: 1\n',
    );
    const members = await cli.ask('org', 'members', org.document.id);
    expect(members.document.members).toMatchObject([{ kilo_user_id: 'ada', role: 'owner' }]);
    await cli.run('user', 'create', 'another owner');
    await cli.run('org', 'add-member', org.document.id, 'another owner', '--role', 'owner');
    const first = await cli.ask('org', 'remove-member', org.document.id, 'another owner');
    expect(first).toMatchObject({ status: 0, document: { was_last_owner: false } });
    const last = await cli.run('org', 'remove-member', org.document.id, 'ada');
    expect(last).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('it has no owner any more'),
    });
    expect((await cli.ask('org', 'members', org.document.id)).document.members).toEqual([]);
  });

  it('take a credit once, and list it', async () => {
    const add = ['credit', 'add', '--user', 'ada', '3', '--note', 'May'];
    const id = 'c0ffee00-0000-4000-8000-000000000001';
    expect((await cli.run(...add, '--id', id)).stdout).toMatch(/^added 3\.000000 USD to ada; /);
    expect((await cli.run(...add, '--id', id)).stdout).toMatch(/^added before: 3\.000000 USD/);
    const listed = await cli.ask('credit', 'list', '--user', 'ada');
    expect(listed.document.credits.filter((one: { id: string }) => one.id === id)).toMatchObject([
      { amount_microdollars: 3_000_000, description: 'May', kilo_user_id: 'ada' },
    ]);
  });

  it('grant credit until a day, list what is left, and let it expire', async () => {
    await cli.ask('user', 'create', 'grace');
    const add = ['credit', 'add', '--user', 'grace', '2', '--expires', '2999-12-31'];
    const id = 'c0ffee00-0000-4000-8000-000000000002';
    const added = await cli.run(...add, '--priority', '-5', '--note', 'trial', '--id', id);
    expect(added.stdout).toBe(
      'added 2.000000 USD to grace, until 3000-01-01T00:00:00Z; 2.000000 USD in all\n',
    );
    expect((await cli.run('user', 'show', 'grace')).stdout).toMatch(
      /; credit expires 3000-01-01T00:00:00Z\n$/,
    );
    expect((await cli.run('credit', 'list', '--user', 'grace')).stdout).toMatch(
      /2\.000000 +2\.000000 +3000-01-01T00:00:00Z +-5 +active +trial/,
    );
    expect((await cli.run('credit', 'expire')).stdout).toBe('nothing expired\n');
    for (const [table, key] of [
      ['credit_transactions', 'id'],
      ['credit_expiries', 'grant_id'],
    ]) {
      await cli.database.pool.query(
        `update ${table} set expires_at = now() - interval '1 s' where ${key} = $1`,
        [id],
      );
    }
    await cli.database.pool.query('update credit_expiries set look_at = expires_at');
    const dry = await cli.ask('credit', 'expire', '--dry-run');
    const expired = [{ payer_id: 'grace', grant_id: id, expired_microdollars: 2_000_000 }];
    expect(dry.document).toMatchObject({ dry_run: true, expired });
    const done = await cli.ask('credit', 'expire', '--user', 'grace');
    expect(done).toMatchObject({ status: 0, document: { dry_run: false, expired, busy: 0 } });
    expect((await cli.run('credit', 'expire')).stdout).toBe('nothing expired\n');
    const list = (await cli.run('credit', 'list', '--user', 'grace')).stdout;
    expect(list).toMatch(new RegExp(`-2\\.000000 .* expiry of ${id}\n`));
    expect(list).toMatch(/ expired +trial\n$/);
    const today = new Date().toISOString().slice(0, 10);
    const range = ['--from', today, '--until', today, '--user', 'grace'];
    const { document } = await cli.ask('export', '--credits', ...range);
    expect(document).toMatchObject({ rows: 2, total_cost_microdollars: 0 });
    expect(document.credits[1]).toMatchObject({ kind: 'expiry', grant_id: id });
  });

  it.each([
    ['--expires', '2020-01-01', /^error: --expires lies in the past/],
    [
      '--expires',
      'soon',
      /^error: --expires must be a UTC day like 2026-12-31, or an ISO 8601 instant/,
    ],
    ['--priority', 'x', /^error: --priority must be a whole number/],
    ['--priority', '', /^error: --priority must be a whole number/],
  ])('refuse a grant with %s %s', async (option, value, message) => {
    const { status, stderr } = await cli.run('credit', 'add', '--user', 'ada', '1', option, value);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  it.each([
    ['user', 'show', 'nobody'],
    ['credit', 'expire', '--user', 'nobody'],
    ['org', 'show', '00000000-0000-4000-8000-000000000000'],
    ['org', 'members', '00000000-0000-4000-8000-000000000000'],
    ['credit', 'list', '--user', 'nobody'],
    ['budget', 'list', '--user', 'nobody'],
    ['alerts', 'list', '--user', 'nobody'],
    ['alerts', 'deliveries', '--org', '00000000-0000-4000-8000-000000000000'],
    ['alerts', 'webhook', 'list', '--user', 'nobody'],
    ['org', 'remove-member', '00000000-0000-4000-8000-000000000000', 'ada'],
  ])('that do not exist are errors: %s %s %s', async (...argv) => {
    const { status, document } = await cli.ask(...argv);
    expect(status).toBe(1);
    expect(document.error.code).toMatch(/^unknown_|^not_found$/);
  });

  it('say that a key is of a user or of a service, not of both', async () => {
    const { stderr } = await cli.run('key', 'create', '--user', 'ada', '--service');
    expect(stderr).toMatch(/either --user <id> or --service/);
  });

  it.each([
    [['key', 'create']],
    [['key', 'create', '--user', 'ada', '--service']],
    [['key', 'create', '--user', 'ada', '--scope', 'everything']],
    [['credit', 'add', '5']],
    [['credit', 'add', '--user', 'ada', '--org', 'x', '5']],
  ])('%j is a usage error', async (argv) => {
    expect(await cli.ask(...argv)).toMatchObject({
      status: 2,
      document: { error: { code: 'invalid_request' } },
    });
  });
});

it('adjust refunds a request by a signed row that names it', async () => {
  const { rows } = await cli.database.pool.query(
    `select id from microdollar_usage where kilo_user_id = 'ada' and cost > 0 order by created_at`,
  );
  const { status, document } = await cli.ask('adjust', rows[0].id, '-0.25');
  expect(status).toBe(0);
  expect(document).toMatchObject({ cost: -250_000, adjusts_usage_id: rows[0].id });
  const again = await cli.run('adjust', rows[0].id, '-0.25');
  expect(again.stdout).toMatch(/^recorded before as \S+: -0\.250000 USD .* needs --id\n$/);
  expect((await cli.run('adjust', rows[0].id, '-0.25', '--id', 'x')).status).toBe(2);
  const named = await cli.run('adjust', rows[0].id, '-0.25', '--id', document.id);
  expect(named.stdout).toMatch(/^recorded before as .* needs another --id\n$/);
  expect((await cli.run('adjust', rows[0].id, '-10')).stderr).toMatch(/set --force to refund more/);
  expect(await cli.ask('adjust', rows[0].id, '-10')).toMatchObject({
    status: 1,
    document: { error: { code: 'refund_exceeds_cost' } },
  });
  await cli.database.pool.query('delete from microdollar_usage where id = $1', [document.id]);

  const rounded = await cli.run('adjust', rows[1].id, '-0.0000015');
  const match = /^recorded (\S+): -0\.000002 USD on (\S+)\n$/.exec(rounded.stdout);
  expect(match?.[2]).toBe(rows[1].id);
  await cli.database.pool.query('delete from microdollar_usage where id = $1', [match?.[1]]);
});

it('tells its version', async () => {
  const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
  expect(await cli.run('--version')).toMatchObject({ status: 0, stdout: `${version}\n` });
});

describe('export', () => {
  const november = ['--from', '2026-11-01', '--until', '2026-11-02'];

  it('as CSV takes both days whole, guards text, and ends with the total', async () => {
    const { status, stdout } = await cli.run('export', ...november);
    expect(status).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(1 + 4 + 1);
    expect(lines[0]).toMatch(/^id,created_at,kilo_user_id/);
    expect(lines.slice(1, 5).filter((line) => line.includes(",'=cmd(),"))).toHaveLength(2);
    expect(lines.slice(1, 5).filter((line) => line.includes(",'-gpt,"))).toHaveLength(2);
    expect(lines.slice(1, 5).filter((line) => line.includes(',-250000,'))).toHaveLength(2);
    expect(lines[5]).toMatch(/^total,{13}1500000,+$/);
  });

  it('as JSONL and as one document agrees', async () => {
    const jsonl = await cli.run('export', ...november, '--format', 'jsonl', '--user', 'ada');
    const objects = jsonl.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(objects.at(-1)).toEqual({ total_cost_microdollars: 2_000_000, rows: 2 });
    const { document } = await cli.ask('export', ...november, '--user', 'ada');
    expect(document).toEqual({ usage: objects.slice(0, -1), ...objects.at(-1) });
  });

  it('of an organization has what it paid for, of a member alone with --user', async () => {
    const [id, name] = [randomUUID(), 'exported'];
    await cli.ask('org', 'create', name, '--id', id);
    const event = { created_at: '2020-02-02T00:00:00Z', organization_id: id };
    for (const [index, user] of ['pays-1', 'pays-2'].entries()) {
      await cli.ask('user', 'create', user);
      await cli.ask('org', 'add-member', id, user);
      const line = JSON.stringify({ ...event, kilo_user_id: user, cost: 10 ** index });
      await cli.ask('import', await cli.file(`${user}.jsonl`, line));
    }
    await cli.ask('credit', 'add', '--org', id, '3', '--note', '');
    const today = new Date().toISOString().slice(0, 10);
    const days = ['--from', '2020-02-02', '--until', today];
    const of = async (...argv: string[]) => {
      const { rows, total_cost_microdollars: cost } = (await cli.ask('export', ...days, ...argv))
        .document;
      return { rows, cost };
    };
    for (const what of [[], ['--daily']]) {
      expect(await of(...what, '--org', id.toUpperCase())).toEqual({ rows: 2, cost: 11 });
      expect(await of(...what, '--org', id, '--user', 'pays-2')).toEqual({ rows: 1, cost: 10 });
    }
    expect(await of('--credits', '--org', id)).toEqual({ rows: 1, cost: 3_000_000 });
    const { stdout } = await cli.run('export', ...days, '--credits', '--org', id, '--no-total');
    // An empty description is an empty cell.
    expect(stdout.split('\n')[1]).toMatch(/,$/);
    expect((await cli.ask('export', ...days, '--org', randomUUID())).status).toBe(1);
    expect((await cli.ask('export', ...days, '--org', name)).status).toBe(2);
  });

  it('of daily totals sums to the same', async () => {
    const { document } = await cli.ask('export', ...november, '--daily');
    expect(document).toMatchObject({ total_cost_microdollars: 1_500_000, rows: 4 });
  });

  it.each(['jsonl', 'csv'])('as %s can be imported again: nothing is recorded', async (format) => {
    const out = join(cli.dir, `out.${format}`);
    const argv = ['export', ...november, '--format', format, '--no-total', '--out', out];
    expect((await cli.ask(...argv)).document).toMatchObject({ file: out, rows: 4 });
    expect(await readFile(out, 'utf8')).not.toMatch(/^total,|total_cost/m);
    expect((await cli.ask('import', out)).document).toMatchObject({ recorded: 0, duplicates: 4 });
  });

  it.each([
    [['--from', '2026-11-01']],
    [['--from', '2026-11-02', '--until', '2026-11-01']],
    [['--from', '2026-11-31', '--until', '2026-12-01']],
    [['--from', 'yesterday', '--until', '2026-12-01']],
  ])('%j is a usage error', async (argv) => {
    expect((await cli.ask('export', ...argv)).status).toBe(2);
  });
});

it('status and fold show that nothing is pending', async () => {
  expect((await cli.ask('fold')).document).toMatchObject({ remaining: 0 });
  const { status, document } = await cli.ask('status');
  expect(status).toBe(0);
  expect(document).toMatchObject({
    database: 'DATABASE_URL',
    pending_rows: 0,
    read_mode: 'rollup',
    is_known_cluster: true,
    counts_foreign_rows: false,
    usage: { rows: 8, isEstimate: false },
  });
});

it('fold exits 1 while somebody holds a counter row', async () => {
  await cli.ask('user', 'create', 'held');
  const holder = await cli.database.pool.connect();
  try {
    await holder.query('begin');
    await holder.query(`select from kilocode_users where id = 'held' for update`);
    const path = await cli.file('held.jsonl', '{"kilo_user_id":"held","cost":9}');
    expect((await cli.ask('import', path)).status).toBe(0);
    expect(await cli.ask('fold')).toMatchObject({ status: 1, document: { remaining: 1 } });
  } finally {
    await holder.query('rollback');
    holder.release();
  }
  expect(await cli.ask('fold')).toMatchObject({
    status: 0,
    document: { drained: 1, remaining: 0 },
  });
});

it('price-unpriced says what gives a price to what has none', async () => {
  const event = { kilo_user_id: 'ada', cost: 0, model: 'unheard-of', metadata: { unpriced: true } };
  await cli.ask('import', await cli.file('unpriced.jsonl', JSON.stringify(event)));
  const { stdout } = await cli.run('price-unpriced');
  expect(stdout).toMatch(/1 still without a price\n.*MICRODOLLAR_PRICES_FILE/);
});

describe('a database without a ledger, as a wrong DATABASE_URL names', () => {
  let empty: TestDatabase;
  beforeAll(async () => {
    empty = await createTestDatabase({ empty: true });
  });
  afterAll(() => empty.drop());

  it.each([
    ['user', 'list'],
    ['user', 'show', 'ada'],
    ['org', 'list'],
    ['key', 'list'],
    ['credit', 'list'],
    ['budget', 'list'],
    ['alerts', 'list'],
    ['alerts', 'deliveries'],
    ['alerts', 'webhook', 'list'],
    ['report', '--user', 'ada'],
    ['export', '--from', '2026-01-01', '--until', '2026-01-02'],
  ])('is told, and not made one, by %s %s', async (...argv) => {
    const { status, stderr } = await runCommand({ DATABASE_URL: empty.url }, ...argv);
    expect([status, stderr]).toEqual([3, expect.stringContaining('run microdollar migrate')]);
    const { rows } = await empty.pool.query(
      `select from pg_class where relnamespace = 'public'::regnamespace`,
    );
    expect(rows).toEqual([]);
  });
});

describe('an unreachable database', () => {
  it.each(['status', 'migrate', 'start', 'fold'])(
    'ends %s with 3, without the password',
    async (command) => {
      const env = {
        DATABASE_URL: 'postgres://me:hush@127.0.0.1:1/none',
        MICRODOLLAR_DATA_DIR: cli.dir,
      };
      const run = await runCommand(env, command);
      expect(run.status).toBe(3);
      expect(run.stdout).toBe('');
      expect(run.stderr).toMatch(/127\.0\.0\.1:1\/none.*ECONNREFUSED/);
      expect(run.stderr).not.toContain('hush');
    },
  );
});
