import { cp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { asAdmin } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { useCli } from './cliHarness.js';

const cli = useCli();
const READ_BACK = `read_back_${process.pid}`;
const DAYS = ['2026-01-01', '2026-01-02', '2026-01-03', '2026-01-04'];
const whole = ['export', '--from', '2026-01-01', '--until', '2026-01-04'];
let directory: string;
let before: { usage: { id: string }[]; total_cost_microdollars: number };

const ids = (document: { usage: { id: string }[] }) => document.usage.map(({ id }) => id).sort();

beforeAll(async () => {
  directory = join(cli.dir, 'archive');
  for (const user of ['ada', 'bob', 'cid']) await cli.ask('user', 'create', user);
  const lines = DAYS.flatMap((day, index) =>
    Array.from({ length: 10 }, (_, each) =>
      JSON.stringify({
        kilo_user_id: index === 0 && each === 9 ? 'cid' : each % 2 ? 'ada' : 'bob',
        cost: each === 3 ? 0 : 10 ** index + each,
        created_at: `${day}T0${each}:00:00.000001Z`,
        model: 'gpt-4o',
        tags: ['a', 'b'],
      }),
    ),
  );
  await cli.ask('import', await cli.file('usage.jsonl', lines.join('\n')));
  await cli.ask('verify');
  before = (await cli.ask(...whole)).document;
  // Two days in files and gone, and a third that was ended in its midst: in both.
  await cli.ask('archive', '--until', '2026-01-02', '--out', directory);
  const ending = new AbortController();
  await archiveUsage({
    url: cli.database.url,
    until: '2026-01-03',
    directory,
    limits: { rowsPerTransaction: 3 },
    signal: ending.signal,
    onStep: (step) => {
      if (step === 'moved') ending.abort();
    },
  });
});

afterAll(() =>
  asAdmin((client) => client.query(`drop database if exists "${READ_BACK}" with (force)`)),
);

describe('an export over archived days', () => {
  it('says which days are missing, and exits with 1', async () => {
    const { status, document } = await cli.ask(...whole);
    expect(status).toBe(1);
    expect(document.missing_days).toEqual(DAYS.slice(0, 3));
    expect(document.rows).toBeLessThan(before.usage.length);
    const text = await cli.run(...whole);
    expect(text.stderr).toContain('usage of 2026-01-01 to 2026-01-03 was archived');
    expect(text.stderr).toContain('--archive <dir>');
  });

  it('reads their files, every row once', async () => {
    const { status, document } = await cli.ask(...whole, '--archive', directory);
    expect(status).toBe(0);
    expect(ids(document)).toEqual(ids(before));
    expect(document.total_cost_microdollars).toBe(before.total_cost_microdollars);
    const byId = new Map(before.usage.map((row) => [row.id, row]));
    for (const row of document.usage) expect(row).toEqual(byId.get(row.id));
  });

  it('of one user misses only days on which that user had usage', async () => {
    const cid = await cli.ask(...whole, '--user', 'cid');
    expect(cid).toMatchObject({ status: 1, document: { missing_days: ['2026-01-01'] } });
    const found = await cli.ask(...whole, '--user', 'cid', '--archive', directory);
    expect(found).toMatchObject({ status: 0, document: { rows: 1 } });
  });

  it('tells when a file is not there', async () => {
    const [first = ''] = (await readdir(directory)).sort();
    const copy = join(cli.dir, 'partial');
    await cp(directory, copy, { recursive: true });
    await rm(join(copy, first));
    const run = await cli.ask(...whole, '--archive', copy);
    expect(run).toMatchObject({ status: 1, document: { missing_days: ['2026-01-01'] } });
  });

  it('by day is whole without files', async () => {
    const { status, document } = await cli.ask(...whole, '--daily');
    expect(status).toBe(0);
    expect(document.total_cost_microdollars).toBe(before.total_cost_microdollars);
    expect((await cli.run(...whole, '--daily', '--archive', directory)).status).toBe(2);
  });
});

describe('archive read', () => {
  const read = (...argv: string[]) =>
    cli.ask('archive', 'read', directory, '--database', READ_BACK, ...argv);

  it('puts files into a database of their own, which can be asked, and again adds nothing', async () => {
    const first = await read('--until', '2026-01-02');
    expect(first).toMatchObject({
      status: 0,
      document: { events: 20, added: 20, from: '2026-01-01', until: '2026-01-02' },
    });
    const second = await read();
    expect(second.document).toMatchObject({ events: 30, added: 10, until: '2026-01-03' });
    expect((await read()).document).toMatchObject({ events: 30, added: 0 });
    const url = (await cli.ask('psql-url', '--database', READ_BACK)).document.url;
    const pool = openPool({ connectionString: url, max: 1 });
    const { rows } = await pool.query(
      `select kilo_user_id, sum(cost)::integer as cost, count(*)::integer as events,
         min(metadata -> 'tags' ->> 0) as tag
       from archived_usage where created_at < '2026-01-02' group by 1 order by 1`,
    );
    await pool.end();
    expect(rows).toEqual([
      { kilo_user_id: 'ada', cost: 16, events: 4, tag: 'a' },
      { kilo_user_id: 'bob', cost: 25, events: 5, tag: 'a' },
      { kilo_user_id: 'cid', cost: 10, events: 1, tag: 'a' },
    ]);
  });

  it("refuses the ledger's own database, and a directory that is none", async () => {
    const own = await cli.ask('archive', 'read', directory, '--database', cli.database.name);
    expect(own).toMatchObject({
      status: 2,
      document: { error: { details: { field: 'database' } } },
    });
    expect((await cli.ask('archive', 'read', '/none', '--database', READ_BACK)).status).toBe(2);
  });

  it('of the ledger, archive still says what it needs', async () => {
    expect((await cli.run('archive', '--out', directory)).stderr).toContain('--until is required');
    expect((await cli.run('archive', '--until', '2026-01-04')).status).toBe(2);
  });
});
