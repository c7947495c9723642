import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Statement } from '../../src/db/statement.js';
import {
  BALANCE_SOURCES,
  type BalanceSource,
  setOpeningStatement,
} from '../../src/rollup/balances.sql.js';
import {
  type ClaimedRow,
  claimPeriodStatement,
  saveProgressStatement,
} from '../../src/rollup/coverage.sql.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { compareDay } from '../../src/rollup/dimensions/compareDay.js';
import { rebuildCountersStatement } from '../../src/rollup/rebuild.sql.js';
import { QUARTER_HOURLY } from '../../src/schema/dimensionRollups.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

/**
 * Guards that stand one behind the other in a job, each asked by itself: a job is right as long as one
 * of them holds.
 */
const DAY = '2025-03-05';
const BEGAN = '2030-01-01T00:00:00Z';
const GOES_ON = { isLast: false, leftKeys: 0 };

const STATE = 'select state, built_at = $1::timestamptz as is_as_begun from rollup_coverage';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
  await run(`insert into rollup_coverage (rollup, period) values ('microdollar_usage_daily', $1)`, [
    DAY,
  ]);
});
afterAll(() => database.drop());

const run = async (text: string, values: unknown[] = []) =>
  (await database.pool.query(text, values)).rows;
const send = async <Row>({ text, values }: Statement) => (await run(text, values)) as Row[];

describe('a period of a backfill', () => {
  const claim = (worker: string) =>
    send<ClaimedRow>(
      claimPeriodStatement(DAILY_ROLLUP, worker, { from: DAY, until: DAY, began: BEGAN }, []),
    );
  const save = (worker: string, end: { isLast: boolean; leftKeys: number } = GOES_ON) =>
    send(
      saveProgressStatement(DAILY_ROLLUP, worker, {
        period: DAY,
        isCheck: false,
        began: BEGAN,
        doneUntilUser: 'u',
        rawRows: 1,
        rawCost: '1',
        isFirst: true,
        correctedKeys: 0,
        ...end,
      }),
    );

  it('is claimed by one worker, until the claim runs out, and saved by whoever has it', async () => {
    const [one, two] = [randomUUID(), randomUUID()];
    expect(await claim(one)).toMatchObject([{ period: DAY, done_until_user: null }]);
    expect(await claim(two)).toEqual([]);
    expect(await save(two)).toEqual([]);
    expect(await save(one)).toEqual([{ period: DAY, is_paused: false }]);
    await run(`update rollup_coverage set claimed_until = now() - interval '1 second'`);
    expect(await claim(two)).toMatchObject([{ period: DAY, done_until_user: 'u' }]);
    expect(await save(one)).toEqual([]);
    await run('insert into rollup_backfill (rollup, is_paused) values ($1, true)', [
      DAILY_ROLLUP.name,
    ]);
    expect(await save(two)).toEqual([{ period: DAY, is_paused: true }]);
    // Built as of when it was begun: what was written meanwhile may be missing.
    expect(await save(two, { isLast: true, leftKeys: 0 })).toMatchObject([{ period: DAY }]);
    expect(await run(STATE, [BEGAN])).toEqual([{ state: 'built', is_as_begun: true }]);
  });

  it('with keys that stay wrong is left to be built', async () => {
    await run(`update rollup_coverage set state = 'unbuilt', claimed_until = null`);
    const worker = randomUUID();
    await claim(worker);
    await save(worker, { isLast: true, leftKeys: 1 });
    expect(await run(STATE, [BEGAN])).toMatchObject([{ state: 'unbuilt' }]);
  });
});

it('a comparison of days is read once a connection, and planned for each of them', async () => {
  const jobs = openRollupDatabase(database.url, 1);
  try {
    const days = Array.from({ length: 7 }, (_, index) => `2025-03-0${index + 1}`);
    for (const day of days) await compareDay(jobs, QUARTER_HOURLY, day);
    const text = `select custom_plans::integer as planned, generic_plans::integer as generic
      from pg_prepared_statements where statement like '/* microdollar.verifyDimensions%'`;
    const read = await jobs.query({ name: 'prepared', text, values: [] });
    expect(read).toEqual([{ planned: days.length, generic: 0 }]);
  } finally {
    await jobs.close();
  }
});

describe('a rebuild of counter rows', () => {
  it('leaves what no row can hold, and sets its neighbours', async () => {
    await run(`insert into kilocode_users (id) values ('huge'), ('usual')`);
    const [huge, usual] = await run(
      `insert into microdollar_usage_daily (kilo_user_id, usage_date)
       values ('huge', $1), ('usual', $1)
       returning id`,
      [DAY],
    );
    await run(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       select gen_random_uuid(), u, c, $1::date
       from (values ('huge', 9223372036854775807), ('huge', 9223372036854775807), ('usual', 5))
         as v(u, c)`,
      [DAY],
    );
    const rebuilt = await send(rebuildCountersStatement(DAILY_ROLLUP, [huge.id, usual.id]));
    expect(rebuilt).toMatchObject([{ id: usual.id, before: '0', after: '5' }]);
    expect(
      await run(
        `select kilo_user_id as user, total_cost_microdollars as total
         from microdollar_usage_daily
         order by 1`,
      ),
    ).toEqual([
      { user: 'huge', total: '0' },
      { user: 'usual', total: '5' },
    ]);
  });
});

describe('the opening balance of a payer', () => {
  it('is set by whoever comes first', async () => {
    await run(`insert into kilocode_users (id, opening_microdollars_used) values ('opened', null)`);
    const [ofUsers] = BALANCE_SOURCES as [BalanceSource];
    for (const opening of [5n, 7n]) await send(setOpeningStatement(ofUsers, 'opened', opening));
    expect(
      await run(
        `select opening_microdollars_used as opening from kilocode_users where id = 'opened'`,
      ),
    ).toEqual([{ opening: '5' }]);
  });
});
