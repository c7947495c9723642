import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adminKeyPath } from '../../src/cli/environment.js';
import type { Bench } from '../lib/bench.js';
import { eventSource } from '../lib/population.js';
import type { Findings, Scenario } from '../lib/scenario.js';
import {
  postgresMegabytes,
  residentMegabytes,
  type StartCommand,
  startServer,
} from '../lib/startedServer.js';
import { median, round } from '../lib/statistics.js';

const LIMIT_SECONDS = 30;
const COMMANDS: readonly StartCommand[] = ['npm start', 'node dist/cli/main.js start'];
const REQUESTS = 200;
const EVENTS_PER_REQUEST = 100;

export const startup: Scenario = {
  name: 'startup',
  title: 'Startup time and memory',
  question: 'How long until a served URL, and how much memory does it take?',
  workload: `From the command to an answer of /healthz, with the embedded server: on a new data
directory (cold: initdb and all migrations), and on the same one again (warm). \`npm start\` builds
first. Memory after the start, and after ${(REQUESTS * EVENTS_PER_REQUEST).toLocaleString('en-US')}
events through HTTP, ${EVENTS_PER_REQUEST} a request.`,
  baseline: `None: the issue asks for a served URL within ${LIMIT_SECONDS} s.`,
  run,
};

interface Memory {
  node: number;
  postgres: number | null;
}

async function run(bench: Bench): Promise<Findings> {
  const rounds = bench.pick(3, 1);
  const seconds = new Map<string, number[]>();
  const note = (name: string, value: number) => {
    seconds.set(name, [...(seconds.get(name) ?? []), round(value, 3)]);
  };
  let idle: Memory | null = null;
  let loaded: Memory | null = null;
  // What `node dist` runs must be there before it is timed.
  await startOnce('npm start');
  for (let turn = 0; turn < rounds; turn++) {
    for (const command of COMMANDS) {
      const dataDir = mkdtempSync(join(tmpdir(), 'microdollar-bench-'));
      try {
        const cold = await startServer(command, dataDir);
        await cold.stop();
        const warm = await startServer(command, dataDir);
        try {
          idle = { node: residentMegabytes(warm.pid), postgres: postgresMegabytes(dataDir) };
          await sendEvents(warm.url, dataDir);
          loaded = { node: residentMegabytes(warm.pid), postgres: postgresMegabytes(dataDir) };
        } finally {
          await warm.stop();
        }
        note(`${command}, cold`, cold.seconds);
        note(`${command}, warm`, warm.seconds);
        bench.log(
          `  ${command}: cold ${cold.seconds.toFixed(1)} s, warm ${warm.seconds.toFixed(1)} s`,
        );
      } finally {
        rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
      }
    }
  }
  return toFindings(seconds, idle as Memory | null, loaded as Memory | null);
}

async function startOnce(command: StartCommand): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), 'microdollar-bench-'));
  try {
    const server = await startServer(command, dataDir);
    await server.stop();
  } finally {
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function sendEvents(url: string, dataDir: string): Promise<void> {
  const key = readFileSync(adminKeyPath(dataDir), 'utf8').trim();
  const post = async (path: string, body: unknown) => {
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { results?: { status: string }[] };
  };
  const nextEvent = eventSource({ users: 1, draw: () => () => 0 }, 31);
  await post('/api/users', { id: nextEvent().kilo_user_id });
  for (let request = 0; request < REQUESTS; request++) {
    const events = Array.from({ length: EVENTS_PER_REQUEST }, nextEvent);
    const { results = [] } = await post('/api/usage', { events });
    if (results.some(({ status }) => status !== 'recorded')) throw new Error('event not recorded');
  }
}

function toFindings(
  seconds: ReadonlyMap<string, number[]>,
  idle: Memory | null,
  loaded: Memory | null,
): Findings {
  const slowest = Math.max(...[...seconds.values()].flat());
  return {
    tables: [
      {
        title: 'Seconds until /healthz answers',
        columns: ['command', 'median', 'fastest', 'slowest'],
        rows: [...seconds].map(([name, values]) => [
          name,
          median(values),
          Math.min(...values),
          Math.max(...values),
        ]),
      },
      {
        title: 'Memory (MB; PostgreSQL with all backends, shared pages counted once)',
        columns: ['moment', 'Node', 'PostgreSQL'],
        rows: [
          ['after the start', idle?.node ?? null, idle?.postgres ?? null],
          ['after the events', loaded?.node ?? null, loaded?.postgres ?? null],
        ],
      },
    ],
    checks: [
      {
        name: `a served URL within ${LIMIT_SECONDS} s`,
        ok: slowest < LIMIT_SECONDS,
        detail: `slowest start ${slowest} s`,
      },
    ],
  };
}
