import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createTestDatabase } from '../support/database.js';
import { programPath } from '../support/programs.js';
import { startReplayUpstream } from '../support/replayUpstream.js';

// A fifth of it is left for what is cut, five seconds at most: on a busy machine too.
const SHUTDOWN_MS = 15_000;

/** `microdollar start` as an orchestrator runs it, and stops it. */
it('SIGTERM: one budget for all; what is cut is told, recorded, and the process ends by itself', async () => {
  const database = await createTestDatabase();
  const dataDir = await mkdtemp(join(tmpdir(), 'microdollar-stop-'));
  const upstream = await startReplayUpstream();
  upstream.script('endless', (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: {"model":"gpt-4.1-nano","choices":[{"delta":{"content":"a"}}]}\n\n');
  });
  const child = spawn(process.execPath, [programPath('src/cli/main.ts'), 'start'], {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      PORT: '0',
      DATABASE_URL: database.url,
      MICRODOLLAR_DATA_DIR: dataDir,
      MICRODOLLAR_ADMIN_KEY: 'admin-key-of-the-test',
      MICRODOLLAR_OPENAI_URL: upstream.url,
      MICRODOLLAR_SHUTDOWN_MS: String(SHUTDOWN_MS),
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'exit');
  try {
    let output = '';
    while (!/in a browser\n/.test(output)) output += String((await once(child.stdout, 'data'))[0]);
    const url = /microdollar is ready: (\S+)/.exec(output)?.[1];
    const post = async (path: string, body: object, key = 'admin-key-of-the-test') =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    await post('/api/users', { id: 'ada' });
    await post('/api/credits', { kilo_user_id: 'ada', usd: 5 });
    const made = await post('/api/keys', { kilo_user_id: 'ada', scopes: ['gateway'] });
    const { key } = (await made.json()) as { key: string };
    // On a busy machine the first statements may take too long: then it says 503.
    let stream: Response;
    do {
      stream = await post('/v1/chat/completions', { model: 'script:endless', stream: true }, key);
    } while (stream.status === 503);
    expect(stream.status).toBe(200);
    const reader = stream.body?.getReader();
    await reader?.read();
    child.kill('SIGTERM');
    let told = '';
    try {
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
        if (done) break;
        told += Buffer.from(value).toString();
      }
    } catch {
      // The connection breaks after the last event.
    }
    expect(told).toContain('shutting down');
    expect(await ended).toEqual([0, null]);
    const { rows } = await database.pool.query(
      'select has_error, cancelled from microdollar_usage join microdollar_usage_metadata using (id)',
    );
    expect(rows).toEqual([{ has_error: true, cancelled: false }]);
  } finally {
    child.kill('SIGKILL');
    await upstream.close();
    await database.drop();
    await rm(dataDir, { recursive: true, force: true });
  }
});
