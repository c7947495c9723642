import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { readEnvironment } from '../../src/cli/environment.js';
import { csvFormat, jsonFormat, jsonlFormat } from '../../src/cli/exportFormats.js';
import { DAILY_SHAPE, USAGE_SHAPE } from '../../src/cli/exportRows.sql.js';
import { failedOnFile } from '../../src/cli/exportTarget.js';
import {
  alignTable,
  formatInstant,
  Output,
  type Streams,
  toCommandError,
  toShellWord,
} from '../../src/cli/output.js';
import { describeVerify } from '../../src/cli/verify.js';
import { cannotWrite } from '../../src/db/dump/dump.js';
import { LedgerError } from '../../src/errors.js';
import { guardText, unguardText } from '../../src/formulas.js';

const row = (fields: Record<string, string | boolean | null>) => ({
  ...Object.fromEntries(USAGE_SHAPE.columns.map((column) => [column.name, null])),
  ...fields,
});

it('tells instants in one form, whatever they came in', () => {
  const instants = [
    '2026-11-26T21:37:08.123456Z',
    '2026-11-26T21:37:08Z',
    '2026-11-26T22:37:08.1+01:00',
  ];
  for (const instant of instants) expect(formatInstant(instant)).toBe('2026-11-26T21:37:08Z');
  expect(formatInstant('infinity')).toBe('infinity');
});

it('prints paths as one word of a shell, whatever is in them', () => {
  expect(toShellWord('/var/lib/microdollar/admin-key')).toBe('/var/lib/microdollar/admin-key');
  const odd = "/my data/it's $HOME/`x`";
  expect(toShellWord(odd)).toBe("'/my data/it'\\''s $HOME/`x`'");
  expect(execFileSync('sh', ['-c', `printf %s ${toShellWord(odd)}`], { encoding: 'utf8' })).toBe(
    odd,
  );
});

const DISK_FAULTS = [
  ['ENOSPC', 'the disk is full'],
  ['EDQUOT', 'the disk is full'],
  ['EIO', 'the disk failed'],
] as const;

it.each(DISK_FAULTS)('says of a dump or an export what the disk did: %s', (code, what) => {
  expect(cannotWrite('backup', code)).toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining(
      `cannot write to backup (${code}); nothing of the dump is kept; ${what}`,
    ),
  });
  expect(failedOnFile('usage.csv', Object.assign(new Error(code), { code }))).toMatchObject({
    code: 'unavailable',
    message: `cannot write usage.csv (${code}); ${what}, and nothing of the export is kept`,
  });
});

it('blames the path, and no disk, where that cannot be written', () => {
  expect(cannotWrite('backup', 'EACCES')).toMatchObject({
    code: 'invalid_request',
    message: 'cannot write to backup (EACCES); nothing of the dump is kept',
  });
  expect(failedOnFile('a.csv', Object.assign(new Error(), { code: 'EACCES' }))).toMatchObject({
    code: 'invalid_request',
    message: 'cannot write a.csv (EACCES)',
  });
});

it('says no drift of all that was asked for, or of what was compared until an interruption', () => {
  expect(describeVerify([])).toMatch(/\nno drift$/);
  expect(describeVerify([], { isWhole: false })).toMatch(/\nno drift in what was compared$/);
});

describe('exported CSV', () => {
  const csv = csvFormat(USAGE_SHAPE);

  it.each(['=1+1', '+1', '-1', '@x', '\tx', ' =1+1', '\u00a0 @x'])(
    'keeps the text %j from being a formula',
    (text) => {
      const line = csv.row(row({ kilo_user_id: text, cost: '5' }), 0);
      expect(line.split(',')[2]?.replaceAll('"', '')).toBe(`'${text}`);
    },
  );

  it.each(['=1', "'=1", "''@x", "'a", "'", '', '@cf/llama', "\t'", " '=1", "' =1"])(
    'gives %j back',
    (text) => {
      expect(unguardText(guardText(text))).toBe(text);
    },
  );

  it('leaves numbers, and text that only contains such characters', () => {
    const cells = csv.row(row({ kilo_user_id: 'a=b', cost: '-5' }), 0).split(',');
    expect([cells[2], cells[13]]).toEqual(['a=b', '-5']);
  });

  it('ends with the total under its column', () => {
    const total = csvFormat(DAILY_SHAPE).end({ rows: 2, costMicrodollars: -7n });
    expect(total).toBe('total,,,-7\n');
  });
});

describe('exported JSON', () => {
  const daily = { usage_date: '2026-11-22', kilo_user_id: 'ada', organization_id: null };
  const first = { ...daily, total_cost_microdollars: '9007199254740991' };

  it('is one object a line, the total last', () => {
    const format = jsonlFormat(DAILY_SHAPE);
    const text = format.row(first, 0) + format.end({ rows: 1, costMicrodollars: 9n });
    expect(
      text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([
      { ...daily, total_cost_microdollars: 9007199254740991 },
      { total_cost_microdollars: 9, rows: 1 },
    ]);
  });

  it('is one document with --json, also without rows', () => {
    const format = jsonFormat(DAILY_SHAPE);
    const end = format.end({ rows: 0, costMicrodollars: 0n });
    expect(JSON.parse(format.head() + end)).toEqual({
      usage: [],
      total_cost_microdollars: 0,
      rows: 0,
    });
    const text = format.head() + format.row(first, 0) + format.row(first, 1) + end;
    expect(JSON.parse(text).usage).toHaveLength(2);
  });

  it('rounds no amount: beyond 2^53 it is a decimal string', () => {
    const beyond = { ...first, total_cost_microdollars: '9007199254740993' };
    const line = JSON.parse(jsonlFormat(DAILY_SHAPE).row(beyond, 0));
    expect(line.total_cost_microdollars).toBe('9007199254740993');
  });
});

describe('the environment', () => {
  it('has defaults; empty is not set', () => {
    // What stands behind the name may be a key, and is not told.
    for (const rest of [':-}', '}', ':?is missing}', ':-sk-a-key}']) {
      const text = `$\{ADMIN_KEY${rest}`;
      expect(() => readEnvironment({ MICRODOLLAR_ADMIN_KEY: text })).toThrow(
        /^MICRODOLLAR_ADMIN_KEY is a text like \$\{ADMIN_KEY\}: what started this did not put its value in$/,
      );
    }
    expect(readEnvironment({ PORT: '', DATABASE_URL: '' })).toEqual({
      databaseUrl: null,
      migrationUrl: null,
      replicaUrl: null,
      shards: null,
      schema: null,
      pooler: null,
      dataDir: '.microdollar',
      host: '127.0.0.1',
      port: 8787,
      adminKey: null,
      logLevel: 'info',
      upstreams: { openai: {}, anthropic: {} },
      pricesFile: null,
      trustedProxies: [],
      gateway: {
        upstreamsFile: null,
        maxInFlight: 64,
        onAbort: null,
        holds: 'expected',
        onOutgrown: 'continue',
        corsOrigins: [],
        traces: { payer: false, upstream: false },
      },
      allowsPrivateWebhooks: false,
      keepAlertsDays: 90,
      tiersUsd: [],
      shutdownMs: 25_000,
      telemetry: expect.objectContaining({ traces: null, metrics: null, warnings: [] }),
    });
    expect(readEnvironment({ MICRODOLLAR_TIERS: '199, 19,49.50,19' }).tiersUsd).toEqual([
      19, 49.5, 199,
    ]);
  });

  it.each([
    [{ PORT: '65536' }, 'PORT'],
    [{ PORT: 'http' }, 'PORT'],
    [{ LOG_LEVEL: 'loud' }, 'LOG_LEVEL'],
    [{ DATABASE_URL: 'mysql://u:secret@h/d' }, 'DATABASE_URL'],
    [{ MICRODOLLAR_MAX_IN_FLIGHT: '0' }, 'MICRODOLLAR_MAX_IN_FLIGHT'],
    [{ MICRODOLLAR_SHUTDOWN_MS: '25s' }, 'MICRODOLLAR_SHUTDOWN_MS'],
    [{ MICRODOLLAR_TIERS: '19,-1' }, 'MICRODOLLAR_TIERS'],
    [{ MICRODOLLAR_TIERS: '1,2,3,4,5,6,7' }, 'MICRODOLLAR_TIERS'],
    [{ MICRODOLLAR_POOLER: 'session' }, 'MICRODOLLAR_POOLER'],
    [{ MICRODOLLAR_ON_ABORT: 'secret' }, 'MICRODOLLAR_ON_ABORT'],
    [{ MICRODOLLAR_HOLDS: 'secret' }, 'MICRODOLLAR_HOLDS'],
    [{ MICRODOLLAR_ALERTS_ALLOW_PRIVATE: 'yes' }, 'MICRODOLLAR_ALERTS_ALLOW_PRIVATE'],
    [{ MICRODOLLAR_ON_OUTGROWN: 'secret' }, 'MICRODOLLAR_ON_OUTGROWN'],
    [{ MICRODOLLAR_TRACE_ALLOW: 'payer, secret' }, 'MICRODOLLAR_TRACE_ALLOW'],
    [{ MICRODOLLAR_CORS_ORIGINS: 'https://a.example, secret' }, 'MICRODOLLAR_CORS_ORIGINS'],
  ])('names the wrong variable in %j, not its value', (env, name) => {
    expect(() => readEnvironment(env)).toThrow(new RegExp(`^${name} must be`));
    expect(() => readEnvironment(env)).not.toThrow(/secret/);
  });

  it('names what is no proxy, whatever the command', () => {
    const env = { MICRODOLLAR_TRUSTED_PROXIES: '10.0.0.0/8, 10.0.0/33' };
    expect(() => readEnvironment(env)).toThrow(
      'MICRODOLLAR_TRUSTED_PROXIES: "10.0.0/33" is neither',
    );
  });
});

it('a refused connection is unavailable; a bug is internal', () => {
  const refused = Object.assign(new Error('connect'), { code: 'ECONNREFUSED', syscall: 'connect' });
  expect(toCommandError(refused).code).toBe('unavailable');
  expect(toCommandError(new TypeError('x is not a function')).code).toBe('internal');
});

it.each([
  'Connection terminated unexpectedly',
  'Client has encountered a connection error and is not queryable',
  'Client was closed and is not queryable',
  'Query read timeout',
  'timeout exceeded when trying to connect',
])('a lost connection is an outage, as the driver tells it: %s', (message) => {
  expect(toCommandError(new Error(message))).toMatchObject({ code: 'unavailable' });
});

it('tables are aligned without trailing space', () => {
  expect(
    alignTable(
      [
        ['a', '1'],
        ['bbb', '20', ''],
      ],
      [1],
    ),
  ).toBe('a     1\nbbb  20');
});

describe('names from outside', () => {
  it('cannot steer the terminal of whoever lists them, nor break a table', () => {
    expect(alignTable([['a\u001b[31m\u202e\nb', 'c\t']])).toBe(
      'a\\u001b[31m\\u202e\\u000ab  c\\u0009',
    );
  });

  it('stand in sentences and errors as what they are', () => {
    const written: string[] = [];
    const stream = { write: (text: string) => written.push(text) > 0 };
    const streams = { stdout: stream, stderr: stream } as unknown as Streams;
    const output = new Output(false, streams);
    output.answer({}, 'created user \u001b[2J\nnext');
    output.error(new LedgerError('internal', 'no \u009b2J'));
    expect(written).toEqual(['created user \\u001b[2J\nnext\n', 'error: no \\u009b2J\n']);
  });
});
