import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { type Pooler, startPooler } from '../support/pooler/transactionPooler.js';
import { programPath } from '../support/programs.js';

let database: TestDatabase;
let dataDir: string;
let pooler: Pooler;
const children: ChildProcess[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'microdollar-pooled-'));
  // As poolers are set up whose clients ask for settings: they are dropped, without a word.
  pooler = await startPooler(database.url, { poolSize: 2, ignoredParameters: 'options' });
});

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  await pooler.stop();
  await database.drop();
  await rm(dataDir, { recursive: true, force: true });
});

const KEY = 'admin-key-of-the-test';

function launch(env: NodeJS.ProcessEnv): { child: ChildProcess; output(): string } {
  const child = spawn(process.execPath, [programPath('src/cli/main.ts'), 'start'], {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      PORT: '0',
      DATABASE_URL: pooler.url,
      MICRODOLLAR_DATA_DIR: dataDir,
      MICRODOLLAR_ADMIN_KEY: KEY,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      printed += String(chunk);
    });
  }
  return { child, output: () => printed };
}

async function untilReady({ child, output }: ReturnType<typeof launch>): Promise<string> {
  for (;;) {
    const url = /microdollar is ready: (\S+)[\s\S]*in a browser\n/.exec(output())?.[1];
    if (url !== undefined) return url;
    if (child.exitCode !== null) throw new Error(output());
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** What became of each, by status. */
async function record(url: string, events: number): Promise<Record<string, number>> {
  const seen: Record<string, number> = {};
  for (let sent = 0; sent < events; sent++) {
    const response = await fetch(`${url}/api/usage`, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify({ events: [{ kilo_user_id: 'pooled', cost: 7 }] }),
    });
    const { results } = (await response.json()) as { results: { status: string }[] };
    const status = results[0]?.status ?? '';
    seen[status] = (seen[status] ?? 0) + 1;
  }
  return seen;
}

it('start behind a pooler records all, also after a restart of the service alone', async () => {
  await database.pool.query(`insert into kilocode_users (id) values ('pooled')`);
  for (let round = 1; round <= 2; round++) {
    const started = launch({ MICRODOLLAR_POOLER: 'transaction' });
    const url = await untilReady(started);
    expect(await record(url, 40)).toEqual({ recorded: 40 });
    started.child.kill('SIGTERM');
    await once(started.child, 'exit');
  }
  const { rows } = await database.pool.query('select count(*)::int as n from microdollar_usage');
  expect(rows).toEqual([{ n: 80 }]);
}, 180_000);

it('start behind a pooler that nobody told it of is refused, with the remedy', async () => {
  const { child, output } = launch({ MICRODOLLAR_MIGRATION_URL: database.url });
  const [status] = await once(child, 'exit');
  expect(status).not.toBe(0);
  expect(output()).toContain('MICRODOLLAR_POOLER=transaction');
}, 120_000);
