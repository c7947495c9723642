import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { transform } from 'esbuild';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { createUser } from '../../src/accounts/users.js';
import { compiledProject } from '../support/programs.js';
import { type ReplayUpstream, startReplayUpstream } from '../support/replayUpstream.js';
import { WORDS } from '../support/scriptedAnswers.js';
import { scriptProvider } from '../support/scriptedProvider.js';
import { startTestServer, type TestServer } from './serverHarness.js';

const DOCUMENT = path.join(import.meta.dirname, '../../docs/sdk.md');
/** What the package exports, where this project lies compiled. */
const ENTRIES: readonly [name: string, file: string][] = [
  ['microdollar/sdk', './src/gateway/sdk/index.js'],
  ['microdollar', './src/index.js'],
];

let service: TestServer;
let upstream: ReplayUpstream;
const written: string[] = [];
beforeAll(async () => {
  [service, upstream] = await Promise.all([startTestServer(), startReplayUpstream()]);
  scriptProvider(upstream);
});
afterAll(async () => {
  await Promise.all([service?.stop(), upstream?.close()]);
  await Promise.all(written.map((file) => rm(file, { force: true })));
});

/** The programs of the document, each in a file; and one that runs them in turn. */
async function writePrograms(): Promise<string> {
  const text = await readFile(DOCUMENT, 'utf8');
  const blocks = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = '']) => code);
  const write = async (name: string, content: string) => {
    const file = path.join(compiledProject(), name);
    await writeFile(file, content);
    written.push(file);
    return file;
  };
  for (const [index, block] of blocks.entries()) {
    const { code } = await transform(block, { loader: 'ts', format: 'esm', target: 'node20' });
    const linked = ENTRIES.reduce(
      (each, [name, file]) => each.replaceAll(`from "${name}"`, `from "${file}"`),
      code,
    );
    await write(`sdkExample${index}.mjs`, linked);
  }
  const imports = blocks.map((_, index) => `await import('./sdkExample${index}.mjs');`);
  return write('sdkExamples.mjs', imports.join("\nconsole.log('---');\n"));
}

async function run(program: string, env: Record<string, string>): Promise<string> {
  const child = spawn(process.execPath, [program], { env: { ...process.env, ...env } });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  const [status] = await once(child, 'close');
  expect(status, Buffer.concat(errors).toString()).toBe(0);
  return Buffer.concat(output).toString();
}

it('runs the examples of docs/sdk.md, and each records what it used', async () => {
  await createUser(service.ledger.pool, { id: 'ada' });
  const { key } = await createApiKey(service.ledger.pool, {
    kilo_user_id: 'ada',
    scopes: ['usage:write'],
  });
  const output = await run(await writePrograms(), {
    MICRODOLLAR_URL: service.url,
    MICRODOLLAR_KEY: key,
    DATABASE_URL: service.database.url,
    OPENAI_BASE_URL: `${upstream.url}/v1`,
    OPENAI_API_KEY: 'sk-of-the-test',
    ANTHROPIC_BASE_URL: upstream.url,
    ANTHROPIC_API_KEY: 'sk-ant-of-the-test',
  });
  const said = WORDS.join('');
  const printed = output.split('---\n').map((each) => each.trimEnd());
  expect(printed).toEqual([
    said,
    said,
    expect.stringMatching(
      new RegExp(`^recorded: [1-9]\\d* microdollars, [1-9]\\d* in all\n${said}$`),
    ),
    said,
    '',
    'recorded',
  ]);
  const { rows } = await service.database.pool.query(
    `select u.provider, u.project_id, u.cost > 0 as is_priced, u.has_error, m.streamed, f.feature
     from microdollar_usage as u
     join microdollar_usage_metadata as m on m.id = u.id
     left join feature as f on f.feature_id = m.feature_id
     where u.kilo_user_id = 'ada'
     order by u.created_at`,
  );
  const plain = { project_id: null, is_priced: true, has_error: false, feature: null };
  expect(rows).toEqual([
    { ...plain, provider: 'openai', streamed: false },
    { ...plain, provider: 'anthropic', streamed: true, project_id: 'greetings', feature: 'chat' },
    { ...plain, provider: 'openai', streamed: false },
    { ...plain, provider: 'openai', streamed: false },
    { ...plain, provider: 'openai', streamed: false },
    { ...plain, provider: 'openai', streamed: false },
  ]);
});
