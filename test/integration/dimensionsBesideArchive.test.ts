import { afterEach, beforeEach, expect, it } from 'vitest';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { AT_ONCE, type Pace } from '../../src/rollup/dimensions/pace.js';
import { proveDay } from '../../src/rollup/dimensions/prove.js';
import { DIMENSION_ROLLUPS, QUARTER_HOURLY } from '../../src/schema/dimensionRollups.js';
import { createFilledFixture, FIRST, type FilledFixture, LAST } from './archiveHarness.js';

/** An archive overtakes a proof of one of its days: what its raw rows were is known by the rollup alone. */
let fixture: FilledFixture;
beforeEach(async () => {
  fixture = await createFilledFixture();
  await new DimensionFolder({ query: queryOnPool(fixture.database.pool, false) }).foldAll();
});
afterEach(() => fixture.close());

const countersOf = (rollup: string) =>
  fixture.rows(`select * from ${rollup} where period_start < $1::date + 1 order by id`, [FIRST]);

/** Archives before the step of that number. */
const archivingBefore = (number: number): Pace & { steps: number } => ({
  ...AT_ONCE,
  steps: 0,
  async step(work) {
    if (++this.steps === number) await fixture.archive(LAST);
    return await work();
  },
});

async function prove(rollup: (typeof DIMENSION_ROLLUPS)[number], cause: string | null, pace: Pace) {
  const database = openRollupDatabase(fixture.database.url, 2);
  try {
    return await proveDay(database, rollup, FIRST, { cause, pace });
  } finally {
    await database.close();
  }
}

it.each(DIMENSION_ROLLUPS.map((rollup) => [rollup.name, rollup] as const))(
  'what is set right of %s is not what the archive has left',
  async (name, rollup) => {
    const before = await countersOf(name);
    expect(before.length).toBeGreaterThan(3);
    await fixture.rows(`delete from ${name} where kilo_user_id <> 'zero'`);
    const pace = archivingBefore(2);
    await prove(rollup, '', pace);
    expect(pace.steps).toBeGreaterThan(2);
    expect(await countersOf(name)).toEqual(before);
  },
);

it('no drift is told of a day whose slices were compared on both sides of it', async () => {
  const pace = { ...archivingBefore(2), sliceMinutes: 360 };
  const { found } = await prove(QUARTER_HOURLY, null, pace);
  expect(pace.steps).toBe(4);
  expect(found.wrong).toBe(0);
  const known = await fixture.rows(
    'select state, drift_keys from rollup_coverage where rollup = $1 and period = $2',
    [QUARTER_HOURLY.name, FIRST],
  );
  expect(known).toEqual([{ state: 'archived', drift_keys: 0 }]);
});
