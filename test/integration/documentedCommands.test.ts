import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.js';
import { asAdmin, createTestDatabase, type TestDatabase } from '../support/database.js';
import { endServices, launchService, readyUrl } from '../support/serviceProcess.js';
import { createShims, type ShimAnswer, type ShimCall, type Shims } from '../support/shims.js';
import { runCommand } from './cliHarness.js';

/**
 * Every `sh` block of the README and of the operators' documents, run by a shell in its order, with
 * one service and one database. Programs that a block calls are shims, answered by this process:
 * commands run as in the other tests, `curl` and `psql` do what these do, and nothing else is needed.
 */
const REPOSITORY = resolve(import.meta.dirname, '../..');

/** Run elsewhere: a fresh clone, and services that stay. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'npm ci': 'scripts/fresh-start.ts',
  'npm start': 'test/integration/cliStart.test.ts',
  'npm test': 'this run',
  'npm run -s azure-trace': 'test/integration/azureTrace.test.ts',
};

/** What stands for the reader's own. */
const LITELLM = 'postgres://litellm';
const SPEND = `request_id,call_type,user,model,spend,total_tokens,prompt_tokens,completion_tokens,startTime,endTime
one,acompletion,litellm-user,gpt-4o,0.25,30,10,20,2026-01-02T00:00:00Z,2026-01-02T00:00:01Z
`;
const ACTIVITY = `generation_id,created_at,cost_total,tokens_prompt,tokens_completion,model_permaslug
gen-1,2026-01-02 00:00:00,0.01,10,20,openai/gpt-4o
`;

let database: TestDatabase;
let dir: string;
let shims: Shims;
let serviceUrl: string;
let oldKeyId = '';
const embedded = new Map<string, EmbeddedPostgres>();
const elsewhere = new Set<string>();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'microdollar-documents-'));
  database = await createTestDatabase();
  await writeFile(join(dir, 'activity.csv'), ACTIVITY);
  await mkdir(join(dir, '.microdollar'));
  const service = launchService(['start'], { env: baseEnv() });
  serviceUrl = await readyUrl(service);
  const names = ['microdollar', 'npm', 'curl', 'psql'];
  shims = await createShims(join(dir, 'bin'), names, answer);
  // History around the days that the documents name, proven, so that an archive has days to take.
  await runCommand(baseEnv(), 'user', 'create', 'hist');
  const lines = Array.from({ length: 14 }, (_, day) =>
    JSON.stringify({
      kilo_user_id: 'hist',
      cost: 1_000 + day,
      created_at: new Date(Date.UTC(2026, 0, 25 + day, 12)).toISOString(),
    }),
  );
  await writeFile(join(dir, 'history.jsonl'), lines.join('\n'));
  await runCommand(baseEnv(), 'import', join(dir, 'history.jsonl'));
  const key = await runCommand(baseEnv(), '--json', 'key', 'create', '--user', 'hist');
  oldKeyId = JSON.parse(key.stdout).id;
});

afterAll(async () => {
  await endServices();
  await shims?.close();
  for (const server of embedded.values()) await server.stop();
  await database.drop();
  await asAdmin((client) =>
    client.query('drop database if exists microdollar_archive with (force)'),
  );
  await rm(dir, { recursive: true, force: true });
});

function baseEnv() {
  return { DATABASE_URL: database.url, MICRODOLLAR_DATA_DIR: join(dir, '.microdollar') };
}

async function answer(call: ShimCall): Promise<ShimAnswer> {
  if (call.name === 'npm') return npm(call);
  if (call.name === 'curl') return curl(call.argv);
  if (call.name === 'psql') return psql(call.argv);
  return microdollar(call, call.argv);
}

function npm(call: ShimCall): Promise<ShimAnswer> {
  const line = ['npm', ...call.argv].join(' ');
  if (line in ELSEWHERE) {
    elsewhere.add(line);
    return Promise.resolve({ status: 0, stdout: '', stderr: '' });
  }
  const [, ...argv] = line.startsWith('npm run -s microdollar -- ') ? call.argv.slice(3) : [];
  if (argv.length === 0) throw new Error(`nothing runs \`${line}\``);
  return microdollar(call, argv);
}

/** In this process. A data directory of a block's own is an embedded database of its own. */
async function microdollar({ cwd, env }: ShimCall, argv: string[]): Promise<ShimAnswer> {
  const dataDir = resolve(cwd, env.MICRODOLLAR_DATA_DIR ?? '.microdollar');
  const isOwn = dataDir !== baseEnv().MICRODOLLAR_DATA_DIR;
  if (isOwn && !embedded.has(dataDir)) {
    embedded.set(dataDir, await startEmbeddedPostgres({ dataDir }));
  }
  const before = process.cwd();
  process.chdir(cwd);
  try {
    return await runCommand(isOwn ? { MICRODOLLAR_DATA_DIR: dataDir } : baseEnv(), ...argv);
  } finally {
    process.chdir(before);
  }
}

async function curl(argv: string[]): Promise<ShimAnswer> {
  const headers: Record<string, string> = {};
  let url = '';
  let body: string | undefined;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '-H') {
      const [name = '', value = ''] = (argv[++at] ?? '').split(/: (.*)/);
      headers[name] = value;
    } else if (word === '-d') body = argv[++at];
    else if (word !== '-s') url = word;
  }
  const { pathname } = new URL(url);
  const init = body === undefined ? { headers } : { method: 'POST', headers, body };
  const response = await fetch(`${serviceUrl}${pathname}`, init);
  return { status: response.ok ? 0 : 22, stdout: await response.text(), stderr: '' };
}

async function psql([url = '', flag, sql = '']: string[]): Promise<ShimAnswer> {
  if (flag !== '-c') throw new Error('psql is called without -c');
  if (url === LITELLM) return { status: 0, stdout: SPEND, stderr: '' };
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query(sql);
    return { status: 0, stdout: `${JSON.stringify(rows)}\n`, stderr: '' };
  } finally {
    await client.end();
  }
}

/** Documents and their blocks; the README's own first, for it makes the user of the others. */
async function documents(): Promise<string[]> {
  const parts = await readdir(join(REPOSITORY, 'docs/operations'));
  return ['README.md', 'docs/operations.md', ...parts.map((name) => `docs/operations/${name}`)];
}

const BLOCK = /```sh\n([\s\S]*?)```/g;
const read = (file: string) => readFile(join(REPOSITORY, file), 'utf8');

describe('every command of the README and of the operators', () => {
  it('runs as it stands', async () => {
    const failures: string[] = [];
    let blocks = 0;
    for (const file of await documents()) {
      for (const [, block = ''] of (await read(file)).matchAll(BLOCK)) {
        blocks++;
        const env = {
          ...baseEnv(),
          PATH: `${shims.directory}:${process.env.PATH}`,
          LITELLM,
          OLD_KEY_ID: oldKeyId,
        };
        try {
          await promisify(execFile)('bash', ['--norc', '-euo', 'pipefail', '-c', block], {
            cwd: dir,
            env,
          });
        } catch (error) {
          const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
          failures.push(`${file}:\n${block}${stdout}${stderr}`);
        }
      }
    }
    expect(failures).toEqual([]);
    expect(blocks).toBeGreaterThan(8);
    expect([...elsewhere].sort()).toEqual(Object.keys(ELSEWHERE).sort());
    // They did what they say.
    const { rows } = await database.pool.query(
      `select id from kilocode_users where id in ('ada', 'litellm-user') order by 1`,
    );
    expect(rows).toEqual([{ id: 'ada' }, { id: 'litellm-user' }]);
    expect((await readdir(dir)).sort()).toEqual(
      expect.arrayContaining(['archive', 'backup', 'restored', 'usage.csv']),
    );
  });

  it('status finds the service that runs with DATABASE_URL', async () => {
    const run = await runCommand(baseEnv(), '--json', 'status');
    expect(JSON.parse(run.stdout)).toMatchObject({
      server_url: serviceUrl,
      server_urls: [serviceUrl],
      ledger_connections: expect.any(Number),
    });
    const elsewhereOnly = { ...baseEnv(), MICRODOLLAR_DATA_DIR: join(dir, 'other') };
    expect((await runCommand(elsewhereOnly, 'status')).stdout).toMatch(
      /^server +none from this data directory; \d+ connections of ledgers that are open elsewhere$/m,
    );
  });

  it('in the midst of a sentence names commands and options that there are', async () => {
    const unknown: string[] = [];
    const helps = new Map<string, string>();
    const helpOf = async (words: readonly string[]) => {
      const name = words.join(' ');
      const help = helps.get(name) ?? (await runCommand({}, ...words, '--help')).stdout;
      helps.set(name, help);
      return help;
    };
    for (const file of [...(await documents()), 'docs/budgets.md', 'docs/gateway.md']) {
      for (const [, text = ''] of (await read(file)).matchAll(/`microdollar ([a-z][^`]*)`/g)) {
        const words = text.split(/\s+/);
        const [command = '', part = ''] = words;
        const help = await helpOf([command]);
        const isGroup = new RegExp(`^ {2}${part} `, 'm').test(help) && /^[a-z]/.test(part);
        const whole = isGroup ? await helpOf([command, part]) : help;
        if (!whole.startsWith(`Usage: microdollar ${command}`)) unknown.push(`${file}: ${text}`);
        for (const word of words) {
          const [option = ''] = /^--[a-z-]+/.exec(word) ?? [];
          if (option !== '' && !whole.includes(option)) unknown.push(`${file}: ${text}: ${option}`);
        }
      }
    }
    expect(unknown).toEqual([]);
  });
});
