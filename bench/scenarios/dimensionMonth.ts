import { PERIOD_ORIGIN } from '../../src/schema/dimensionRollups.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import type { Check, Findings, Scenario } from '../lib/scenario.js';

const REQUESTS = 10_000_000;
const USERS = 100_000;
/** Requests of a session, one after the other within ten minutes. */
const SESSION = 8;

/** What a counter row is by: a period, and what tells the usage of a payer apart in it. */
const KEYS: readonly { grain: string; minutes: number; columns: string }[] = [
  { grain: '15 minutes', minutes: 15, columns: 'u, model, key' },
  { grain: '60 minutes', minutes: 60, columns: 'u, model, key' },
  { grain: 'a day', minutes: 1_440, columns: 'u, model, key' },
  { grain: 'a day, by payer alone', minutes: 1_440, columns: 'u' },
];

export const dimensionMonth: Scenario = {
  name: 'dimension-month',
  title: 'Rollups by dimension: rows of a month, by grain',
  question: 'How many counter rows does a month of requests make, by length of the period?',
  workload: `${REQUESTS.toLocaleString('en-US')} requests of 30 days, ${USERS.toLocaleString('en-US')} users (Zipf,
s = 1), three models, two keys a user of which one pays for a fifth: each request at a time of its own, or in
sessions of ${SESSION} requests of one model and key within ten minutes. Counted, not folded: what a fold
costs is above.`,
  baseline: 'A row a request.',
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const requests = bench.pick(REQUESTS, 100_000);
  const database = await bench.createDatabase();
  try {
    const counts: number[][] = [];
    const totals: number[] = [];
    for (const session of [1, SESSION]) {
      await makeRequests(database, requests, session);
      bench.log(`  made ${requests} requests, ${session} a session`);
      totals.push(await count(database, 'select from bench_request'));
      const rows: number[] = [];
      for (const { minutes, columns } of KEYS) {
        const period = `date_bin('${minutes} minutes', at, ${PERIOD_ORIGIN})`;
        rows.push(
          await count(database, `select from bench_request group by ${columns}, ${period}`),
        );
      }
      counts.push(rows);
    }
    return {
      tables: [
        {
          title: `Counter rows of ${requests.toLocaleString('en-US')} requests`,
          columns: ['period', 'requests alone', `in sessions of ${SESSION}`],
          rows: KEYS.map(({ grain }, index) => [
            grain,
            ...counts.map((rows) => (rows[index] ?? 0).toLocaleString('en-US')),
          ]),
        },
      ],
      checks: [check(totals, counts, requests)],
    };
  } finally {
    await database.drop();
  }
}

/** Of a table that only this scenario has: a narrow row a request. */
async function makeRequests(
  { admin }: BenchDatabase,
  requests: number,
  session: number,
): Promise<void> {
  const client = await admin.connect();
  try {
    await client.query('drop table if exists bench_request');
    await client.query('select setseed(0.5)');
    await client.query(
      `create unlogged table bench_request as
      select s.u, s.model, s.key, s.at + random() * interval '10 minutes' as at
      from (
        select floor(exp(random() * ln(${USERS})))::integer as u,
          floor(random() * 3)::smallint as model, (random() < 0.2)::integer::smallint as key,
          timestamptz '2026-11-01 00:00:00+00' + random() * interval '30 days' as at
        from generate_series(1, ${requests / session})
        offset 0
      ) as s
      cross join generate_series(1, ${session})`,
    );
  } finally {
    client.release();
  }
}

async function count({ admin }: BenchDatabase, rows: string): Promise<number> {
  const client = await admin.connect();
  try {
    // Millions of groups, hashed in memory: sorted on disk they take ten times as long.
    await client.query("set work_mem = '512MB'; set enable_sort = off; set jit = off");
    const { rows: counted } = await client.query<{ count: string }>(
      `select count(*) as count from (${rows}) as x`,
    );
    return Number(counted[0]?.count);
  } finally {
    client.release();
  }
}

/** Longer periods have fewer rows, and none more than there are requests. */
function check(totals: readonly number[], counts: readonly number[][], requests: number): Check {
  const ok =
    totals.every((total) => total === requests) &&
    counts.every((rows) =>
      rows.every((each, index) => each > 0 && each <= (rows[index - 1] ?? requests)),
    );
  return {
    name: 'every request was made, and is in one counter row of each length',
    ok,
    detail: totals.map((total) => total.toLocaleString('en-US')).join(', '),
  };
}
