import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ADMIN_KEY, type Answer, startTestServer, type TestServer } from './serverHarness.js';

const DAYS = 40;

let service: TestServer;
let user: { id: string; key: string };

beforeAll(async () => {
  // A question is held behind a lock for as long as a verification takes.
  service = await startTestServer({}, undefined, {
    lockTimeoutMs: 120_000,
    statementTimeoutMs: 120_000,
  });
  user = await service.newUser();
});
afterAll(() => service?.stop());

/** History of another program: raw rows and nothing else. */
beforeEach(async () => {
  const { pool } = service.database;
  await pool.query('truncate microdollar_usage, microdollar_usage_daily, rollup_coverage');
  await pool.query('delete from rollup_backfill');
  await pool.query("update ledger_settings set installed_empty = false, read_mode = 'raw'");
  await pool.query(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     select gen_random_uuid(), $2, 1000 + d, now() - d * interval '1 day'
     from generate_series(0, $1::integer - 1) as d`,
    [DAYS, user.id],
  );
});

/** Ends once a session waits for a lock on `rollup_repairs`. */
const untilWaits = `do $$ begin
  while not exists (
    select from pg_locks where relation = 'rollup_repairs'::regclass and not granted
  ) loop
    perform pg_sleep(0.01);
  end loop;
end $$`;

const today = () => new Date().toISOString().slice(0, 10);
const daysAgo = (days: number) =>
  new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);
// biome-ignore lint/suspicious/noExplicitAny: tests assert on the shape.
const data = (answer: Answer): any => answer.body.result.data;
const mutate = (procedure: string, input: unknown, key = ADMIN_KEY) =>
  service.post(`/api/trpc/${procedure}`, input ?? {}, key);

// biome-ignore lint/suspicious/noExplicitAny: tests assert on the shape.
async function untilState(procedure: string, holds: (state: any) => boolean): Promise<any> {
  for (;;) {
    const state = data(await service.query(procedure));
    if (holds(state)) return state;
    await sleep(50);
  }
}

const QUERIES = ['status', 'live', 'coverage', 'backfill', 'planBackfill', 'readMode', 'drift'];
const MUTATIONS = ['startBackfill', 'pauseBackfill', 'resumeBackfill', 'setReadMode', 'verify'];

describe('operations', () => {
  it('are for the admin scope alone', async () => {
    for (const name of [...QUERIES, 'unpriced']) {
      const answer = await service.query(`operations.${name}`, undefined, user.key);
      expect([name, answer.status]).toEqual([name, 403]);
    }
    for (const name of [...MUTATIONS, 'repair', 'compareReads']) {
      const answer = await mutate(`operations.${name}`, {}, user.key);
      expect([name, answer.status]).toEqual([name, 403]);
    }
  });

  it('refuse input that makes no sense', async () => {
    for (const [name, input] of [
      ['verify', { from: today(), until: daysAgo(1) }],
      ['verify', { from: '2026-02-30', until: today() }],
      ['repair', { from: today(), until: '2999-01-01' }],
      ['setReadMode', { mode: 'guess' }],
      ['startBackfill', { workers: 99 }],
      ['startBackfill', { from: '2999-01-01' }],
    ] as const) {
      const answer = await mutate(`operations.${name}`, input);
      expect([name, input, answer.status]).toEqual([name, input, 400]);
    }
  });

  it('plan, run and report a backfill, and show its days', async () => {
    const plan = data(await service.query('operations.planBackfill'));
    // The window of the reads belongs to it, whenever usage began.
    expect(plan.periods).toBeGreaterThanOrEqual(DAYS);
    expect(plan.until).toBe(today());
    const before = data(await service.query('operations.coverage'));
    expect(before.days).toHaveLength(DAYS);
    const idle = data(await service.query('operations.backfill'));
    expect(idle.days).toMatchObject({ unbuilt: DAYS, built: 0 });
    expect(new Set(before.days.map(({ state }: { state: string }) => state))).toEqual(
      new Set(['unbuilt']),
    );
    expect((await mutate('operations.startBackfill', {})).status).toBe(200);
    const done = await untilState('operations.backfill', (state) => !state.isRunning);
    expect(done).toMatchObject({
      isPaused: false,
      rowsDone: DAYS,
      days: { unbuilt: 0, building: 0, built: plan.periods },
      job: { error: null, report: { rows: DAYS, created: DAYS } },
    });
    const after = data(await service.query('operations.coverage'));
    expect(after.days.at(-1)).toMatchObject({ state: 'built', rawRows: 1, driftKeys: 0 });
  });

  it('refuse a second backfill meanwhile, and hold a paused one until it is resumed', async () => {
    await mutate('operations.pauseBackfill', {});
    expect((await mutate('operations.startBackfill', {})).status).toBe(200);
    expect((await mutate('operations.startBackfill', {})).status).toBe(409);
    await untilState('operations.backfill', (state) => state.claimedDays > 0);
    const held = data(await service.query('operations.backfill'));
    expect(held).toMatchObject({ isRunning: true, isPaused: true, days: { built: 0 } });
    expect(held.rowsPerSecond).toBeNull();
    expect(held.pausedAt).not.toBeNull();
    await mutate('operations.resumeBackfill', {});
    const done = await untilState('operations.backfill', (state) => !state.isRunning);
    expect(done.days).toMatchObject({ unbuilt: 0, building: 0 });
  });

  it('find planted drift, keep the gate shut for it, and repair it with a record', async () => {
    await mutate('operations.startBackfill', {});
    await untilState('operations.backfill', (state) => !state.isRunning);
    await service.database.pool.query(
      `update microdollar_usage_daily
       set total_cost_microdollars = total_cost_microdollars - 7
       where usage_date = $1`,
      [daysAgo(5)],
    );
    const range = { from: daysAgo(DAYS - 1), until: today() };
    await mutate('operations.verify', range);
    const found = await untilState('operations.drift', ({ job }) => job?.isRunning === false);
    expect(found.days).toEqual([{ day: daysAgo(5), driftKeys: 1, driftMicrodollars: 7 }]);
    expect(found.job.result).toMatchObject({ rows: DAYS, driftKeys: 1, driftMicrodollars: 7 });
    expect(found.job.result.findings[0]).toMatchObject({
      kind: 'wrong',
      kiloUserId: user.id,
      driftMicrodollars: -7,
    });
    const refused = await mutate('operations.setReadMode', { mode: 'rollup' });
    expect([refused.status, refused.body.error.data.ledgerCode]).toEqual([409, 'unproven_window']);
    expect(refused.body.error.message).toContain(daysAgo(5));

    await mutate('operations.repair', range);
    const repaired = await untilState('operations.drift', ({ job }) => job?.isRunning === false);
    expect(repaired.days).toEqual([]);
    expect(repaired.job).toMatchObject({ kind: 'repair', repaired: 1, leftKeys: 0, error: null });
    expect(repaired.repairs[0]).toMatchObject({
      kiloUserId: user.id,
      day: daysAgo(5),
      afterMicrodollars: repaired.repairs[0].beforeMicrodollars + 7,
    });
  });

  it('never tell of a job that has ended with the days from before it', async () => {
    await mutate('operations.startBackfill', {});
    await untilState('operations.backfill', (state) => !state.isRunning);
    const { pool } = service.database;
    await pool.query('update microdollar_usage_daily set total_cost_microdollars = 7');
    const blocker = await pool.connect();
    try {
      await blocker.query('begin; lock rollup_repairs');
      const asked = service.query('operations.drift');
      await pool.query(untilWaits);
      await mutate('operations.verify', { from: daysAgo(DAYS - 1), until: today() });
      await untilState('operations.coverage', ({ days }) => {
        return days.filter(({ driftKeys }: { driftKeys: number }) => driftKeys > 0).length === DAYS;
      });
      await blocker.query('commit');
      const { days, job } = data(await asked);
      expect(job?.kind === 'verify' && !job.isRunning && days.length === 0).toBe(false);
    } finally {
      await blocker.query('rollback');
      blocker.release();
    }
    await untilState('operations.drift', ({ job }) => job?.isRunning === false);
  });

  it('switch to rollup once every day is proven and shadow has compared enough', async () => {
    await mutate('operations.startBackfill', {});
    await untilState('operations.backfill', (state) => !state.isRunning);
    const window = { from: daysAgo(95), until: today() };
    await mutate('operations.verify', window);
    await untilState('operations.drift', ({ job }) => job?.isRunning === false);
    await mutate('operations.setReadMode', { mode: 'shadow' });
    const compared = data(await mutate('operations.compareReads', { users: 100 }));
    expect(compared).toEqual({ comparisons: 100, mismatches: 0 });
    const status = data(await service.query('operations.readMode'));
    expect(status).toMatchObject({ stored: 'shadow', gate: { isOpen: true, obstacles: [] } });
    expect(data(await mutate('operations.setReadMode', { mode: 'rollup' }))).toMatchObject({
      stored: 'rollup',
      effective: 'rollup',
    });
  });

  it('show the write path live, and usage that waits for a price', async () => {
    const live = data(await service.query('operations.live'));
    expect(live).toMatchObject({ pending: { depth: 0 }, journal: null });
    expect(live.database.isReachable).toBe(true);

    const event = { kilo_user_id: user.id, cost: 0, model: 'unheard-of' };
    const { id } = await service.ledger.recordUsage({ ...event, metadata: { unpriced: true } });
    const unpriced = data(await service.query('operations.unpriced'));
    expect(unpriced).toMatchObject({ total: 1, isAtLeast: false, rows: [{ id }] });
    const refund = { ...event, cost: -1, metadata: { adjusts_usage_id: id } };
    await service.ledger.recordUsage(refund);
    expect(data(await service.query('operations.unpriced'))).toMatchObject({ total: 1 });
    const metadata = { adjusts_usage_id: id, price_source: 'own' };
    await service.ledger.recordUsage({ ...event, cost: 12, metadata });
    expect(data(await service.query('operations.unpriced'))).toMatchObject({ total: 0, rows: [] });
  });
});
