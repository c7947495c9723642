import { afterAll, beforeAll, expect, it } from 'vitest';
import { startJob } from '../../src/rollup/backfill.js';
import { BackfillWorker } from '../../src/rollup/backfillWorker.js';
import { openRollupDatabase, type RollupDatabase } from '../../src/rollup/database.js';
import { Throttle } from '../../src/rollup/throttle.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

const DAY = '2026-03-05';

let fixture: LedgerFixture;

beforeAll(async () => {
  fixture = await createLedgerFixture();
});
afterAll(() => fixture.close());

/** Whose first claim was sent before any period was given up. */
function withStaleClaim(database: RollupDatabase): RollupDatabase {
  let isStale = true;
  const query: RollupDatabase['query'] = (statement) => {
    if (!isStale || statement.name !== 'microdollar_claim_period') return database.query(statement);
    isStale = false;
    const values = statement.values.with(4, '{}');
    return database.query({ ...statement, values });
  };
  return { ...database, query };
}

it('a period that is given up while another worker claims it is counted once', async () => {
  const user = await fixture.addUser();
  await fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     select gen_random_uuid(), $1, 9223372036854775807, $2::date from generate_series(1, 3)`,
    [user, DAY],
  );
  const options = {
    url: fixture.database.url,
    rollup: DAILY_ROLLUP,
    from: DAY,
    until: DAY,
  };
  const database = openRollupDatabase(options.url, 2);
  try {
    const job = await startJob(database, options);
    for (const each of [database, withStaleClaim(database)]) {
      const { signal } = new AbortController();
      await new BackfillWorker(each, options, job, new Throttle(each.query), signal).run();
    }
    expect(job.report).toMatchObject({ left: 1, unfit: 1, created: 0, failures: [] });
    expect(
      await fixture.rows(
        'select state, claimed_by from rollup_coverage where rollup = $1 and period = $2',
        [DAILY_ROLLUP.name, DAY],
      ),
    ).toEqual([{ state: 'unbuilt', claimed_by: null }]);
  } finally {
    await database.close();
  }
});
