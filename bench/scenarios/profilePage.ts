import { createApiKey } from '../../src/accounts/apiKeys.js';
import { createLedger } from '../../src/ledger.js';
import { createServer } from '../../src/server/index.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { HISTORY_USERS } from '../lib/history.js';
import { userId } from '../lib/population.js';
import type { Check, Findings, Scenario } from '../lib/scenario.js';
import { median, quantile, ratiosPerRound, round } from '../lib/statistics.js';

const USERS = 20;
const CALLS = 'kiloPass.getAverageMonthlyUsageLast3Months,profile.account,usage.daily';

export const profilePage: Scenario = {
  name: 'profile-page',
  title: 'Opening the profile',
  question: 'Does the profile page open as fast over a long history as over none?',
  workload: `The request that the page makes when it is opened (average, account with the last
requests, days of three months), over HTTP, one after the other, of ${USERS} users in turn.`,
  baseline: 'The same page of users on a database without any usage, in turns.',
  run,
};

interface Page {
  /** Until the whole answer, ms. */
  open(turn: number): Promise<number>;
  /** What the page shows for the first user, against raw usage. */
  check(): Promise<Check>;
  close(): Promise<void>;
}

async function run(bench: Bench): Promise<Findings> {
  const rows = bench.pick(10_000_000, 100_000);
  const full = await bench.history(rows);
  const empty = await bench.createDatabase();
  await empty.admin.query('insert into kilocode_users (id) select unnest($1::text[])', [
    Array.from({ length: HISTORY_USERS }, (_, index) => userId(index)),
  ]);
  const pages = { none: await openPages(empty), full: await openPages(full) };
  const rounds = bench.pick(8, 3);
  const allMs = { none: [] as number[], full: [] as number[] };
  const p50Ms = { none: [] as number[], full: [] as number[] };
  const checks: Check[] = [];
  try {
    for (let turn = -1; turn < rounds; turn++) {
      for (const which of ['none', 'full'] as const) {
        const timesMs: number[] = [];
        for (let opened = 0; opened < 100; opened++) timesMs.push(await pages[which].open(opened));
        // The first round warms connections, plans and caches.
        if (turn < 0) continue;
        p50Ms[which].push(quantile(timesMs, 0.5));
        allMs[which].push(...timesMs);
      }
    }
    checks.push(await pages.full.check());
  } finally {
    await pages.none.close();
    await pages.full.close();
    await empty.drop();
  }
  const million = `${rows / 1_000_000} million rows`;
  const row = (label: string, which: 'none' | 'full') => [
    label,
    round(median(p50Ms[which])),
    round(quantile(allMs[which], 0.99)),
  ];
  return {
    comparisons: [
      {
        subject: `profile page, ${million}`,
        baseline: 'no usage at all',
        measure: 'p50 ms',
        ratios: ratiosPerRound(p50Ms.full, p50Ms.none),
        target: null,
      },
    ],
    tables: [
      {
        title: 'Time until the answer, ms',
        columns: ['raw rows', 'p50', 'p99'],
        rows: [row('none', 'none'), row(million, 'full')],
      },
    ],
    checks,
  };
}

async function openPages(database: BenchDatabase): Promise<Page> {
  const keys: string[] = [];
  for (let user = 0; user < USERS; user++) {
    const kilo_user_id = userId(user);
    const { key } = await createApiKey(database.admin, { kilo_user_id, scopes: ['usage:read'] });
    keys.push(key);
  }
  const ledger = await createLedger({ databaseUrl: database.url, poolSize: 4 });
  const server = createServer({ ledger, port: 0, logLevel: 'silent' });
  const url = await server.listen();
  const until = new Date().toISOString().slice(0, 10);
  const from = new Date(Date.now() - 92 * 86_400_000).toISOString().slice(0, 10);
  const input = JSON.stringify({ 0: {}, 1: {}, 2: { from, until, organizationId: null } });
  const address = `${url}/api/trpc/${CALLS}?batch=1&input=${encodeURIComponent(input)}`;
  const get = async (turn: number) => {
    const authorization = `Bearer ${keys[turn % USERS]}`;
    const answer = await fetch(address, { headers: { authorization } });
    if (answer.status !== 200) throw new Error(`the page answered ${answer.status}`);
    return await answer.text();
  };
  return {
    async open(turn) {
      const startedAt = performance.now();
      await get(turn);
      return performance.now() - startedAt;
    },
    async check() {
      const [, , daily] = JSON.parse(await get(0));
      const days: { total_cost_microdollars: number }[] = daily.result.data;
      const shown = days.reduce((sum, day) => sum + day.total_cost_microdollars, 0);
      const { rows } = await database.admin.query<{ total: string }>(
        `select coalesce(sum(cost), 0) as total from microdollar_usage
        where kilo_user_id = $1 and organization_id is null and created_at >= $2::date`,
        [userId(0), from],
      );
      const total = Number(rows[0]?.total);
      return {
        name: 'days shown equal raw usage',
        ok: shown === total,
        detail: `${shown} = ${total} microdollars`,
      };
    },
    async close() {
      await server.close();
      await ledger.close();
    },
  };
}
