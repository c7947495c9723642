import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Pool } from 'undici';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { createUser } from '../../src/accounts/users.js';
import type { HoldMode } from '../../src/gateway/proxy/reservations.js';
import { compileModules } from '../../test/support/compileProject.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import type { Check } from '../lib/scenario.js';

/** What is between: nothing, a proxy of the same libraries that only passes on, or the gateway. */
export type Way = 'direct' | 'proxy' | 'gateway';

export interface RequestTimes {
  /** To the first byte of the body, ms. */
  firstByteMs: number;
  /** To the end of the body, ms. */
  totalMs: number;
}

export interface GatewayRig {
  database: BenchDatabase;
  gatewayPid: number;
  gatewayUrl: string;
  send(way: Way, body: object, payer?: number): Promise<RequestTimes>;
  /** Answered requests are in the ledger once each, priced, and nothing waits in the journal. */
  check(answered: number): Promise<Check[]>;
  stop(): Promise<void>;
}

export const PAYERS = 16;

export interface RigOptions {
  /** Default as the product's. */
  holds?: HoldMode | 'off';
  /** Each payer has a budget of a day, and its key one of a month. Default: none has. */
  withBudgets?: boolean;
  /** Of which requests there are spans: `always_on`, or a share. Default: of none. */
  traces?: string;
}

/** Provider and gateway, each a process, and a client in this one; connections are kept alive. */
export async function startGatewayRig(
  bench: Bench,
  { holds = 'expected', withBudgets = false, traces }: RigOptions = {},
): Promise<GatewayRig> {
  const database = await bench.createDatabase();
  const dataDir = mkdtempSync(join(tmpdir(), 'microdollar-bench-'));
  const keys: string[] = [];
  for (let payer = 0; payer < PAYERS; payer++) {
    const id = `payer-${payer}`;
    await createUser(database.admin, { id });
    await addCredit(database.admin, { kilo_user_id: id, usd: 1_000_000 });
    const wanted = { kilo_user_id: id, scopes: ['gateway'] };
    const created = await createApiKey(database.admin, wanted);
    keys.push(created.key);
    if (withBudgets) await addBudgets(database, id, created.id);
  }
  // As it is deployed.
  const compiled = await compileModules(['src/**/*.ts', 'bench/scenarios/gateway*.ts']);
  const start = (script: string, args: string[] = [], env: NodeJS.ProcessEnv = {}) =>
    startProcess(join(compiled.dir, 'bench/scenarios', script), args, env);
  const upstream = await start('gatewayUpstream.js');
  const proxy = await start('gatewayProxy.js', [upstream.url]);
  const collector = traces === undefined ? null : await start('gatewayCollector.js');
  const gateway = await start(
    'gatewayProcess.js',
    [database.url, dataDir, upstream.url, holds],
    collector === null ? {} : tracedTo(collector.url, traces as string),
  );
  const pools = {
    direct: new Pool(upstream.url, { keepAliveTimeout: 60_000 }),
    proxy: new Pool(proxy.url, { keepAliveTimeout: 60_000 }),
    gateway: new Pool(gateway.url, { keepAliveTimeout: 60_000 }),
  };
  return {
    database,
    gatewayPid: gateway.child.pid as number,
    gatewayUrl: gateway.url,
    send: (way, body, payer = 0) => sendRequest(pools[way], keys[payer % PAYERS] as string, body),
    check: (answered) => checkLedger(database, answered),
    async stop() {
      await Promise.all(Object.values(pools).map((pool) => pool.close()));
      await gateway.stop();
      await proxy.stop();
      await upstream.stop();
      await collector?.stop();
      await database.drop();
      rmSync(dataDir, { recursive: true, force: true });
      compiled.remove();
    },
  };
}

/** Never used up. */
async function addBudgets({ admin }: BenchDatabase, user: string, key: string): Promise<void> {
  await admin.query(
    `insert into budgets (scope, payer_scope, payer_id, api_key_id, period, limit_microdollars)
     values ('user', 'user', $1, null, 'day', 1000000000000),
       ('key', 'user', $1, $2, 'month', 1000000000000)`,
    [user, key],
  );
}

/** `always_on`, or a share of the requests. */
function tracedTo(url: string, traces: string): NodeJS.ProcessEnv {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: url };
  if (traces === 'always_on') return endpoint;
  return {
    ...endpoint,
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: traces,
  };
}

interface Started {
  child: ChildProcess;
  url: string;
  stop(): Promise<void>;
}

async function startProcess(
  script: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<Started> {
  const child = spawn(process.execPath, [script, ...args], {
    env: { ...process.env, ...env },
    // The log is written, and read by nobody.
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'close');
  const failed = ended.then(() => Promise.reject(new Error(`${script} ended`)));
  const line = once(createInterface({ input: child.stdout }), 'line') as Promise<[string]>;
  const [url] = await Promise.race([line, failed]);
  failed.catch(() => {});
  return {
    child,
    url,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

function sendRequest(pool: Pool, key: string, body: object): Promise<RequestTimes> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    let firstByteMs = 0;
    let status = 0;
    let refusal = '';
    pool.dispatch(
      {
        path: '/v1/chat/completions',
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      },
      {
        onRequestStart() {},
        onResponseStart(_controller, statusCode) {
          status = statusCode;
        },
        onResponseData(_controller, chunk) {
          if (status !== 200) refusal += chunk;
          if (firstByteMs === 0) firstByteMs = performance.now() - startedAt;
        },
        onResponseEnd() {
          if (status !== 200) reject(new Error(`answered with ${status} ${refusal}`));
          else resolve({ firstByteMs, totalMs: performance.now() - startedAt });
        },
        onResponseError: (_controller, error) => reject(error),
      },
    );
  });
}

async function checkLedger({ admin }: BenchDatabase, answered: number): Promise<Check[]> {
  const { rows } = await admin.query<{ rows: string; wrong: string; used: string; cost: string }>(
    `select count(*) as rows,
       count(*) filter (where input_tokens <> 1200 or output_tokens <> 60 or cost <= 0) as wrong,
       (select sum(microdollars_used) from kilocode_user_balances) as used,
       sum(cost) as cost
     from microdollar_usage`,
  );
  const { rows: count, wrong, used, cost } = rows[0] as (typeof rows)[number];
  return [
    {
      name: 'every answered request is in the ledger once, with its tokens and a price',
      ok: Number(count) === answered && Number(wrong) === 0,
      detail: `${answered} answered, ${count} rows, ${wrong} of them wrong`,
    },
    { name: 'balances equal usage', ok: used === cost, detail: `${used} = ${cost} microdollars` },
  ];
}
