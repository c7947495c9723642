import { createLedger } from '../../src/ledger.js';
import { DIMENSION_ROLLUPS } from '../../src/schema/dimensionRollups.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { checkFolded } from '../../test/support/checkInvariants.js';
import { findDifferences } from '../../test/support/dimensionTruth.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { openFolder } from '../lib/openFolder.js';
import { seededRandom, zipf } from '../lib/random.js';
import type { Check, Findings, Scenario } from '../lib/scenario.js';
import { round } from '../lib/statistics.js';

const MONTH = 10_000_000;
const USERS = 100_000;
/** What comes between two folds of a payer who has few rows: they are folded when they are so old. */
const STEP_MINUTES = 10;
const STEPS = 72;
/** Of ten minutes of the month. */
const EVENTS_A_STEP = Math.round((MONTH / (30 * 24 * 60)) * STEP_MINUTES);
const EVENTS_A_CALL = 500;
const MODELS = ['anthropic/claude-opus-5', 'openai/gpt-5.2', 'google/gemini-3-pro'];

export const dimensionFold: Scenario = {
  name: 'dimension-fold',
  title: 'Rollups by dimension: what the fold of a month costs',
  question: 'What does an event cost the server, with and without the rollups by dimension?',
  workload: `${(STEPS * STEP_MINUTES) / 60} hours of a month of ${MONTH.toLocaleString('en-US')} requests:
${EVENTS_A_STEP.toLocaleString('en-US')} every ${STEP_MINUTES} minutes, ${USERS.toLocaleString('en-US')} users (Zipf, s = 1),
three models, two keys a user of which one pays for a fifth. After each ${STEP_MINUTES} minutes' worth who had usage
is folded, as the background does it where usage is ${STEP_MINUTES} minutes old; the sweep that looks for what others
left is not in it. CPU is that of the server's processes, whatever else the machine does.`,
  baseline: 'The same events, written and settled into balances and daily totals.',
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const steps = bench.pick(STEPS, 3);
  const users = bench.pick(USERS, 1_000);
  const database = await bench.createDatabase();
  try {
    const { costsMs, events, payers } = await foldInSteps(bench, database, steps, users);
    const per = (ms: number) => round((ms * 1_000) / events, 2);
    const [written = 0, settled = 0, ...folded] = costsMs;
    const without = written + settled;
    const all = folded.reduce((sum, ms) => sum + ms, without);
    const rows = await Promise.all(DIMENSION_ROLLUPS.map(({ name }) => countOf(database, name)));
    return {
      tables: [
        {
          title: `${events.toLocaleString('en-US')} events, ${round(events / payers, 1)} of a payer in a fold`,
          columns: ['what', 'server CPU us an event', 'counter rows'],
          rows: [
            ['written: usage and metadata', per(written), null],
            ['settled into balances and daily totals', per(settled), null],
            ...DIMENSION_ROLLUPS.map(({ name }, index): [string, number, number] => [
              `folded into ${name}`,
              per(folded[index] ?? 0),
              rows[index] ?? 0,
            ]),
            ['without rollups by dimension', per(without), null],
            ['with all of them', per(all), null],
          ],
        },
      ],
      checks: await check(database),
    };
  } finally {
    await database.drop();
  }
}

/** CPU of writes, settles, and of each rollup's folds, ms. */
async function foldInSteps(bench: Bench, database: BenchDatabase, steps: number, users: number) {
  await database.admin.query(
    `insert into kilocode_users (id) select 'u' || g from generate_series(0, $1::integer - 1) as g`,
    [users],
  );
  await database.admin.query('vacuum (analyze) kilocode_users');
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  const folders = DIMENSION_ROLLUPS.map((rollup) => openFolder(database, rollup));
  const costsMs = [0, 0, ...folders.map(() => 0)];
  let [events, payers] = [0, 0];
  async function measured(index: number, work: () => Promise<unknown>): Promise<void> {
    const before = await bench.meter.read();
    await work();
    const after = await bench.meter.read();
    costsMs[index] = (costsMs[index] ?? 0) + (after.serverCpuUs - before.serverCpuUs) / 1_000;
  }
  try {
    const next = eventsOf(users, Date.now() - steps * STEP_MINUTES * 60_000);
    // The first step warms plans, and makes the rows of the day.
    for (let step = -1; step < steps; step++) {
      if (step === 0) costsMs.fill(0);
      const made = Array.from({ length: EVENTS_A_STEP }, () => next(step));
      const ids = [...new Set(made.map(({ kilo_user_id }) => kilo_user_id))];
      await measured(0, async () => {
        for (let at = 0; at < made.length; at += EVENTS_A_CALL) {
          await ledger.recordUsageBatch(made.slice(at, at + EVENTS_A_CALL), { balance: false });
        }
      });
      await measured(1, () => ledger.settleOwn());
      for (const [index, { folder }] of folders.entries()) {
        await measured(2 + index, () => folder.fold(USER_SCOPE, ids));
      }
      if (step < 0) continue;
      events += made.length;
      payers += ids.length;
    }
  } finally {
    await Promise.all(folders.map(({ pool }) => pool.end()));
    await ledger.close();
  }
  return { costsMs, events, payers };
}

function eventsOf(users: number, startMs: number) {
  const random = seededRandom(5);
  const draw = zipf(users, 1, random);
  return (step: number) => {
    const user = draw();
    const key = user * 2 + (random() < 0.2 ? 1 : 0);
    return {
      kilo_user_id: `u${user}`,
      cost: 1 + Math.floor(random() * 20_000),
      provider: 'openrouter',
      model: MODELS[Math.floor(random() * MODELS.length)] as string,
      api_key_id: `00000000-0000-4000-8000-${String(key).padStart(12, '0')}`,
      input_tokens: Math.floor(random() * 5_000),
      output_tokens: Math.floor(random() * 900),
      cache_hit_tokens: Math.floor(random() * 1_000),
      created_at: new Date(startMs + (step + random()) * STEP_MINUTES * 60_000).toISOString(),
    };
  };
}

async function countOf({ admin }: BenchDatabase, table: string): Promise<number> {
  const { rows } = await admin.query<{ count: string }>(`select count(*) from ${table}`);
  return Number(rows[0]?.count);
}

async function check({ admin }: BenchDatabase): Promise<Check[]> {
  const checks: Check[] = [];
  for (const rollup of DIMENSION_ROLLUPS) {
    const differences = await findDifferences(admin, rollup, 'counters');
    checks.push({
      name: `${rollup.name} equals the raw sums, key by key`,
      ok: differences.length === 0,
      detail: `${differences.length} differences`,
    });
  }
  const problems = await checkFolded(admin);
  checks.push({
    name: 'the invariants hold',
    ok: problems.length === 0,
    detail: `${problems.length} problems`,
  });
  return checks;
}
