import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { programPath } from '../support/programs.js';
import { useCli } from './cliHarness.js';

const cli = useCli();

beforeAll(async () => {
  await cli.database.pool.query(
    `insert into kilocode_users (id) values ('ada'), ('bob'), ('old'), ('raw')`,
  );
});

async function usageOf(user: string) {
  const { rows } = await cli.database.pool.query(
    `select id, cost, created_at, (select b.microdollars_used from kilocode_user_balances as b where b.kilo_user_id = $1) as balance
     from microdollar_usage where kilo_user_id = $1 order by cost`,
    [user],
  );
  return rows as { id: string; cost: string; created_at: Date; balance: string }[];
}

describe('importing JSONL', () => {
  it('keeps good lines, names the others, and records nothing the second time', async () => {
    const lines = [
      '\uFEFF{"kilo_user_id":"ada","cost":5,"created_at":"2026-11-01T10:00:00Z"}',
      '{"kilo_user_id":"ada","cost":1.5}',
      '',
      'not json',
      '{"kilo_user_id":"nobody","cost":1}',
      '{"kilo_user_id":"ada","cost":7,"model":"a\0b\\u0000"}',
      '{"kilo_user_id":"ada","cost":1,"colour":"red"}',
      `{"kilo_user_id":"ada","cost":1,"model":"${'x'.repeat(1024 * 1024)}"}`,
      '{"kilo_user_id":"ada","cost":-2}',
      '{"kilo_user_id":"ada","co',
    ];
    const path = await cli.file('mixed.jsonl', lines.join('\r\n'));

    const first = await cli.ask('import', path);
    expect(first.status).toBe(1);
    expect(first.document).toMatchObject({
      lines: 9,
      recorded: 3,
      duplicates: 0,
      rejected: 6,
      recorded_cost_microdollars: 10,
      nul_bytes_removed: 1,
    });
    const rejections = first.document.rejections as {
      line: number;
      code: string;
      reason: string;
    }[];
    expect(rejections.map(({ line, code }) => [line, code])).toEqual([
      [2, 'invalid_event'],
      [4, 'invalid_event'],
      [5, 'unknown_user'],
      [7, 'invalid_event'],
      [8, 'invalid_event'],
      [10, 'invalid_event'],
    ]);
    expect(rejections[3]?.reason).toContain('colour');

    const second = await cli.ask('import', path);
    expect(second.document).toMatchObject({ recorded: 0, duplicates: 3, rejected: 6 });
    const usage = await usageOf('ada');
    expect(usage.map((row) => [row.cost, row.balance])).toEqual([
      ['-2', '10'],
      ['5', '10'],
      ['7', '10'],
    ]);
  });

  it('prints the file, the line and the reason for people', async () => {
    const path = await cli.file('broken.jsonl', '{"kilo_user_id":"bob","cost":0}\n{\n');
    const run = await cli.run('import', path);
    expect(run.status).toBe(1);
    expect(run.stdout).toContain(`${path}, line 2: is not JSON`);
  });

  it('takes an empty file as no usage', async () => {
    const { status, document } = await cli.ask('import', await cli.file('empty.jsonl', ''));
    expect([status, document.lines]).toEqual([0, 0]);
  });

  it('lists the first rejected lines and counts all', async () => {
    const path = await cli.file('noise.jsonl', 'x\n'.repeat(1500));
    const { document } = await cli.ask('import', path);
    expect(document).toMatchObject({ lines: 1500, rejected: 1500 });
    expect(document.rejections.map(({ line }: { line: number }) => line)).toEqual(
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
  });

  it('refuses other content under an id, and keeps the first', async () => {
    const id = '6f6b1a52-57a4-4f1a-a2f0-8f0c2ad1c001';
    const event = (cost: number) => `{"id":"${id}","kilo_user_id":"bob","cost":${cost}}\n`;
    const path = await cli.file('conflict.jsonl', event(3) + event(3) + event(4));
    const { status, document } = await cli.ask('import', path);
    expect(status).toBe(1);
    expect(document).toMatchObject({ recorded: 1, duplicates: 1, rejected: 1 });
    expect(document.rejections[0]).toMatchObject({ line: 3, code: 'idempotency_conflict' });
  });
});

describe('importing CSV', () => {
  it('reads columns, metadata columns and quoted text', async () => {
    const path = await cli.file(
      'usage.csv',
      'kilo_user_id,cost,created_at,model,metadata.latency,metadata.editor_name\r\n' +
        'bob,100,2026-10-01T00:00:00+02:00,"gpt,4""o",12.5,vscode\r\n' +
        'bob,1e3,,,,\r\n',
    );
    const { status, document } = await cli.ask('import', path);
    expect(status).toBe(1);
    expect(document).toMatchObject({ recorded: 1, rejected: 1 });
    expect(document.rejections[0]).toMatchObject({
      line: 3,
      reason: expect.stringMatching(/cost/),
    });
    const { rows } = await cli.database.pool.query(
      `select m.model, d.latency, e.editor_name, m.created_at
       from microdollar_usage as m
       join microdollar_usage_metadata as d on d.id = m.id
       join editor_name as e on e.editor_name_id = d.editor_name_id
       where m.kilo_user_id = 'bob' and m.cost = 100`,
    );
    expect(rows).toEqual([
      {
        model: 'gpt,4"o',
        latency: 12.5,
        editor_name: 'vscode',
        created_at: new Date('2026-09-30T22:00:00Z'),
      },
    ]);
  });

  it.each([
    ['unknown.csv', 'kilo_user_id,cost,colour\nada,1,red\n', /"colour"/],
    ['azure.csv', 'TIMESTAMP,ContextTokens,GeneratedTokens\n', /--format azure-llm/],
    ['empty.csv', '', /is empty/],
    ['gzip.csv', Buffer.from([0x1f, 0x8b, 0x08, 0x00, 0xff]), /compressed.*damaged/],
  ])('rejects %s at line 1', async (name, content, reason) => {
    const { status, document } = await cli.ask('import', await cli.file(name, content));
    expect(status).toBe(1);
    expect(document.rejections).toMatchObject([{ line: 1, reason: expect.stringMatching(reason) }]);
  });

  it('shifts the last day of the file, keeping times, when told to', async () => {
    const path = await cli.file(
      'old.csv',
      'kilo_user_id,cost,created_at\nold,1,2020-02-28T23:59:59.123456Z\n' +
        'old,2,2020-03-01T12:00:00Z\n',
    );
    expect((await cli.ask('import', path, '--shift-to', '2026-11-20')).status).toBe(0);
    const usage = await usageOf('old');
    expect(usage.map((row) => row.created_at.toISOString())).toEqual([
      '2026-11-18T23:59:59.123Z',
      '2026-11-20T12:00:00.000Z',
    ]);
  });
});

it('--raw writes usage rows only, once', async () => {
  const path = await cli.file('raw.jsonl', '{"kilo_user_id":"raw","cost":5}\n'.repeat(3));
  expect((await cli.ask('import', path, '--raw')).document).toMatchObject({ recorded: 3 });
  expect((await cli.ask('import', path, '--raw')).document).toMatchObject({
    recorded: 0,
    duplicates: 3,
  });
  expect((await usageOf('raw')).map((row) => [row.cost, row.balance])).toEqual([
    ['5', '0'],
    ['5', '0'],
    ['5', '0'],
  ]);
  const { rows } = await cli.database.pool.query(
    `select from microdollar_usage_daily_exact where kilo_user_id = 'raw'`,
  );
  expect(rows).toHaveLength(0);
});

it('--raw keeps the key that paid, and takes nothing of what was archived', async () => {
  const api_key_id = '0190b3c1-1111-7111-8111-111111111111';
  const lines = ['2026-05-04T23:59:59Z', '2026-05-05T00:00:00Z'].map((created_at) =>
    JSON.stringify({ kilo_user_id: 'raw', cost: 8, api_key_id, created_at }),
  );
  const path = await cli.file('rawKey.jsonl', lines.join('\n'));
  const settings = 'update ledger_settings set archive_horizon = $1';
  await cli.database.pool.query(settings, ['2026-05-05T00:00:00Z']);
  const { document } = await cli.ask('import', path, '--raw');
  await cli.database.pool.query(settings, [null]);
  expect(document).toMatchObject({ recorded: 1, rejected: 1 });
  const { rows } = await cli.database.pool.query(
    `select api_key_id, created_at from microdollar_usage where kilo_user_id = 'raw' and cost = 8`,
  );
  expect(rows).toEqual([{ api_key_id, created_at: new Date('2026-05-05T00:00:00Z') }]);
});

it('--raw turns reads to raw usage also where it fails midway', async () => {
  const { pool } = cli.database;
  await pool.query(`update ledger_settings set installed_empty = true, read_mode = 'rollup'`);
  await pool.query(`create function refuse_row() returns trigger language plpgsql
    as 'begin raise exception ''no''; end'`);
  await pool.query(`create trigger refuse_row before insert on microdollar_usage
    for each row when (new.cost = 77) execute function refuse_row()`);
  try {
    const lines = [...Array(500).fill(3), 77].map(
      (cost) => `{"kilo_user_id":"raw","cost":${cost}}`,
    );
    const path = await cli.file('rawFails.jsonl', lines.join('\n'));
    expect((await cli.ask('import', path, '--raw')).status).toBe(3);
    const { rows } = await pool.query('select installed_empty, read_mode from ledger_settings');
    expect(rows).toEqual([{ installed_empty: false, read_mode: 'raw' }]);
  } finally {
    await pool.query('drop function refuse_row cascade');
  }
});

describe('a month so far', () => {
  const header = 'kilo_user_id,cost,created_at\n';
  const rows = [100, 200, 300, 300].map(
    (cost, at) => `month,${cost},2026-11-2${at > 1 ? 1 : 0}T10:00:00Z`,
  );

  it('that has grown, and was saved again, records only what is new', async () => {
    await cli.database.pool.query(`insert into kilocode_users (id) values ('month')`);
    const until20 = await cli.file('until-20.csv', `${header}${rows.slice(0, 2).join('\n')}\n`);
    const until21 = await cli.file('until-21.csv', `${header}${rows.slice(0, 3).join('\n')}\n`);
    const saved = `\uFEFF"created_at";"cost";"kilo_user_id"\r\n${rows
      .map((row) => row.split(',').reverse())
      .map(([time, cost, user]) => `${time?.replace('Z', '+00:00')};${cost}.0;"${user}"`)
      .reverse()
      .join('\r\n')}`;
    const until22 = await cli.file('until-22.csv.gz', gzipSync(saved));
    const counts = [];
    for (const path of [until20, until21, until22, until22, until20]) {
      const { status, document } = await cli.ask('import', path);
      counts.push([status, document.recorded, document.duplicates]);
    }
    expect(counts).toEqual([
      [0, 2, 0],
      [0, 1, 2],
      [0, 1, 3],
      [0, 0, 4],
      [0, 0, 2],
    ]);
    expect((await usageOf('month')).map((row) => [row.cost, row.balance])).toEqual(
      ['100', '200', '300', '300'].map((cost) => [cost, '900']),
    );
  });

  it('keeps what was whole of a compressed file that is cut off, and exits 1', async () => {
    const lines = Array.from({ length: 5_000 }, (_, at) => `month,1,2026-11-22T10:00:00.${at}Z\n`);
    const whole = gzipSync(header + lines.join(''));
    const path = await cli.file('cut.csv.gz', whole.subarray(0, whole.length - 2_000));
    const { status, document } = await cli.ask('import', path, '--dry-run');
    expect(status).toBe(1);
    expect(document).toMatchObject({ rejected: 1, dry_run: true });
    expect(document.rejections).toMatchObject([
      { line: document.lines + 1, reason: expect.stringMatching(/damaged or cut off/) },
    ]);
  });
});

it('reads standard input, compressed or not', async () => {
  const event = '{"kilo_user_id":"old","cost":11,"created_at":"2026-11-01T00:00:00Z"}\n';
  const statuses = [];
  for (const input of [event, gzipSync(event)]) {
    const child = spawn(
      process.execPath,
      [programPath('src/cli/main.ts'), '--json', 'import', '-', '--format', 'jsonl'],
      { env: { ...process.env, DATABASE_URL: cli.database.url }, stdio: 'pipe' },
    );
    child.stdin.end(input);
    const document = JSON.parse(await text(child.stdout));
    statuses.push([document.recorded, document.duplicates]);
  }
  expect(statuses).toEqual([
    [1, 0],
    [0, 1],
  ]);
});

describe('a dry run', () => {
  it('says what would become of the lines, and writes nothing', async () => {
    const id = '6f6b1a52-57a4-4f1a-a2f0-8f0c2ad1c0aa';
    const line = (cost: number, user = 'ada') =>
      `{"id":"${id}","kilo_user_id":"${user}","cost":${cost}}`;
    const path = await cli.file(
      'dry.jsonl',
      [line(3), line(3), line(4), '{"kilo_user_id":"nobody","cost":1}', '{"cost":1}', 'x'].join(
        '\n',
      ),
    );
    const dry = await cli.ask('import', path, '--dry-run');
    const wet = await cli.ask('import', path);
    expect(dry.status).toBe(1);
    expect(dry.document).toEqual({ ...wet.document, dry_run: true });
    expect(dry.document).toMatchObject({ recorded: 1, duplicates: 1, rejected: 4 });
    const again = await cli.ask('import', path, '--dry-run');
    expect(again.document).toMatchObject({ recorded: 0, duplicates: 2, rejected: 4 });
  });
});

describe('usage errors', () => {
  it.each([
    [['import', 'no-such-file.jsonl'], /no-such-file.jsonl/],
    [['import', 'usage.parquet'], /cannot read usage.parquet/],
    [['import', 'package.json'], /--format/],
    [['import'], /files/],
    [['import', 'x.csv', '--format', 'xml'], /jsonl, csv, azure-llm, litellm, openrouter/],
    [['import', '-'], /standard input.*--format/],
    [['import', '-', '-', '--format', 'csv'], /twice/],
    [['import', '-', '--format', 'csv', '--shift-to', '2026-11-20'], /--shift-to/],
    [['import', 'package.json', '--format', 'csv', '--user', 'ada'], /--user.*litellm/],
    [['import', 'package.json', '--format', 'openrouter'], /--user is required/],
    [['import', 'package.json', '--format', 'litellm', '--org', 'acme'], /--org/],
    [['import', 'x.csv', '--users', '0'], /--users/],
    [['import', '.', '--format', 'csv'], /not a file/],
    [['import', 'package.json', '--format', 'csv', '--model', 'no-such-model'], /--model/],
    [['import', 'package.json', '--format', 'csv', '--shift-to', '2026-02-30'], /--shift-to/],
    [['import', 'package.json', '--format', 'csv', '--shift-to', '9999-01-01'], /future/],
  ])('%j exits 2', async (argv, message) => {
    const { status, document } = await cli.ask(...argv);
    expect(status).toBe(2);
    expect(document.error).toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(message),
    });
  });
});
