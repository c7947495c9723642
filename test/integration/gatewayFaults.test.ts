import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { createUser } from '../../src/accounts/users.js';
import { createLedger } from '../../src/ledger.js';
import { ANSWERS, type Answer, WIRE_PATHS } from '../support/answers/index.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { programPath } from '../support/programs.js';
import { exchangeBytes, postBytes } from '../support/rawHttp.js';
import { openRelay, type Relay } from '../support/relay.js';
import { type ReplayUpstream, startReplayUpstream } from '../support/replayUpstream.js';

/** The full form: 2,000 requests and 20 s. */
const REQUESTS = Number(process.env.MICRODOLLAR_FAULT_REQUESTS ?? inForm(60, 300));
const OUTAGE_MS = Number(process.env.MICRODOLLAR_FAULT_OUTAGE_MS ?? 3_000);
const CLIENTS = 12;
const PAYERS = 4;
const WORKER = 'test/support/gatewayWorker.ts';

let database: TestDatabase;
let relay: Relay;
let upstream: ReplayUpstream;
let dataDir: string;
let worker: ChildProcess | null = null;
let url = '';
const keys: string[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
  relay = await openRelay(database.url);
  upstream = await startReplayUpstream();
  dataDir = await mkdtemp(path.join(tmpdir(), 'microdollar-fault-'));
  for (let payer = 0; payer < PAYERS; payer++) {
    const id = `payer-${payer}`;
    await createUser(database.pool, { id });
    await addCredit(database.pool, { kilo_user_id: id, usd: 10_000 });
    const created = await createApiKey(database.pool, { kilo_user_id: id, scopes: ['gateway'] });
    keys.push(created.key);
  }
});

afterEach(async () => {
  await end('SIGKILL');
  await relay.close();
  await upstream.close();
  await database.drop();
  await rm(dataDir, { recursive: true, force: true });
});

/** On the same port each time, as a supervisor would. */
async function start(): Promise<void> {
  const port = url === '' ? '0' : new URL(url).port;
  const args = [programPath(WORKER), relay.url, dataDir, port, upstream.url];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  worker = child;
  const lines = createInterface({ input: child.stdout });
  const [line] = (await once(lines, 'line')) as [string];
  url = line;
}

async function end(signal: NodeJS.Signals): Promise<void> {
  if (worker === null || worker.exitCode !== null || worker.signalCode !== null) return;
  const ended = once(worker, 'close');
  worker.kill(signal);
  await ended;
}

interface Answered {
  id: string;
  answer: Answer;
}

/** One request, sent until its client sees a whole answer. */
async function askUntilAnswered(index: number): Promise<Answered> {
  const answer = ANSWERS[index % ANSWERS.length] as Answer;
  const key = keys[index % keys.length] as string;
  const body = JSON.stringify({
    model: `replay:${answer.name}?chunkBytes=4000&delayMs=2&usage=always`,
    stream: answer.streamed,
    ...(answer.api === 'openai-chat' && answer.streamed
      ? { stream_options: { include_usage: true } }
      : {}),
  });
  const headers = { authorization: `Bearer ${key}`, connection: 'close' };
  const request = postBytes(WIRE_PATHS[answer.api], headers, body);
  for (;;) {
    const reply = await exchangeBytes(url, request).catch(() => null);
    const id = /x-microdollar-usage-id: (\S+)/.exec(reply?.head ?? '')?.[1];
    const isAnswered = reply?.isComplete && reply.head.startsWith('HTTP/1.1 200 ');
    if (isAnswered && id !== undefined) return { id, answer };
    await sleep(50);
  }
}

interface LedgerRow {
  id: string;
  input_tokens: string;
  output_tokens: string;
  cache_write_tokens: string;
  cache_hit_tokens: string;
  adjusts_usage_id: string | null;
  estimated: string | null;
}

async function readLedger(): Promise<Map<string, LedgerRow[]>> {
  const { rows } = await database.pool.query<LedgerRow>(
    `select u.id, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens,
       adjusts_usage_id, estimated
     from microdollar_usage as u join microdollar_usage_metadata as m on m.id = u.id`,
  );
  const byRequest = new Map<string, LedgerRow[]>();
  for (const row of rows) {
    const id = row.adjusts_usage_id ?? row.id;
    byRequest.set(id, [...(byRequest.get(id) ?? []), row]);
  }
  return byRequest;
}

describe('the database stops, the gateway is killed', () => {
  it(
    `${REQUESTS} requests: what a client saw answered is in the ledger once`,
    async () => {
      await start();
      const answered: Answered[] = [];
      let next = 0;
      const client = async () => {
        while (next < REQUESTS) answered.push(await askUntilAnswered(next++));
      };
      const reaches = async (share: number) => {
        while (answered.length < REQUESTS * share) await sleep(5);
      };
      const faults = async () => {
        await reaches(0.2);
        await end('SIGKILL');
        await start();
        await reaches(0.4);
        await relay.cut();
        // Also of those who ask after the cut.
        const wanted = answered.length + CLIENTS + 1;
        await sleep(OUTAGE_MS / 2);
        while (answered.length < wanted) await sleep(5);
        // Killed with usage in the journal alone; the next one finds it.
        await end('SIGKILL');
        const restarted = start();
        await sleep(OUTAGE_MS / 2);
        await relay.restore();
        await restarted;
      };
      await Promise.all([faults(), ...Array.from({ length: CLIENTS }, client)]);
      await end('SIGTERM');
      expect(answered).toHaveLength(REQUESTS);
      expect(new Set(answered.map(({ id }) => id)).size).toBe(REQUESTS);

      // What the last process left in its journal, and intents of the killed ones.
      await start();
      const isSettled = async () => {
        const { rows } = await database.pool.query('select from gateway_intents');
        const ledger = await readLedger();
        return rows.length === 0 && answered.every(({ id }) => ledger.has(id));
      };
      while (!(await isSettled())) await sleep(100);
      await end('SIGTERM');

      const ledger = await readLedger();
      for (const { id, answer } of answered) {
        const rows = ledger.get(id) ?? [];
        expect(rows).toHaveLength(1);
        const { inputTokens, outputTokens, cacheWriteTokens, cacheHitTokens } = answer.usage;
        expect({ ...rows[0], name: answer.name }).toMatchObject({
          name: answer.name,
          estimated: null,
          input_tokens: String(inputTokens),
          output_tokens: String(outputTokens),
          cache_write_tokens: String(cacheWriteTokens),
          cache_hit_tokens: String(cacheHitTokens),
        });
      }
      expect(await checkInvariants(database.pool)).toEqual([]);
      const folder = await createLedger({ databaseUrl: database.url, backgroundFold: false });
      await folder.fold();
      await folder.close();
      expect(await checkFolded(database.pool)).toEqual([]);
    },
    180_000 + REQUESTS * 300 + OUTAGE_MS * 4,
  );
});
