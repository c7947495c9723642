import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { runBackfill } from '../../src/rollup/backfill.js';
import { buildDimensions } from '../../src/rollup/dimensions/build.js';
import { verifyDimensions } from '../../src/rollup/dimensions/prove.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DIMENSION_ROLLUPS } from '../../src/schema/dimensionRollups.js';
import { DAILY_ROLLUP, EXA_ROLLUP } from '../../src/schema/rollups.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** Days without usage, most of a small ledger's window, are built and verified all at once. */
const DIMENSIONS = DIMENSION_ROLLUPS[0] as (typeof DIMENSION_ROLLUPS)[number];

let fixture: LedgerFixture;

beforeEach(async () => {
  fixture = await createLedgerFixture();
});

afterEach(() => fixture.close());

const job = () => ({ url: fixture.database.url, rollup: DAILY_ROLLUP });
const dimensionJob = () => ({ ...job(), rollup: DIMENSIONS });

/** A day so long ago, as the database prints it. */
async function dayBefore(days: number): Promise<string> {
  const [row] = await fixture.rows<{ day: string }>(
    `select ((now() at time zone 'UTC')::date - $1::integer)::text as day`,
    [days],
  );
  return row?.day ?? '';
}

async function addRaw(day: string): Promise<void> {
  const user = await fixture.addUser();
  await fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     values ($1, $2, 5, $3::date + interval '12 hours')`,
    [randomUUID(), user, day],
  );
}

interface Known {
  state: string;
  days: number;
  raw_rows: number;
}

/** Days of the coverage by state, and the rows that they are known to have. */
const known = (rollup: { name: string } = DAILY_ROLLUP) =>
  fixture.rows<Known>(
    `select state, count(*)::integer as days, sum(raw_rows)::integer as raw_rows
     from rollup_coverage where rollup = $1 group by state order by state`,
    [rollup.name],
  );

async function coverageOf(day: string, rollup: { name: string } = DAILY_ROLLUP) {
  const [row] = await fixture.rows(
    `select state, raw_rows, drift_keys, claimed_by, built_at is not null as is_built,
       verified_at is not null as is_verified
     from rollup_coverage where rollup = $1 and period = $2`,
    [rollup.name, day],
  );
  return row;
}

it('are known after a backfill, a verification and another backfill, with those that have some', async () => {
  await addRaw(await dayBefore(3));
  const told: [number, number][] = [];
  const built = await runBackfill({
    ...job(),
    onProgress: ({ periodsDone, periodsTotal }) => told.push([periodsDone, periodsTotal]),
  });
  const days = built.periods;
  expect(days).toBeGreaterThan(89);
  expect(built).toMatchObject({ checked: 0, rows: 1, created: 1 });
  expect(told.at(-1)).toEqual([days, days]);
  expect(await known()).toEqual([{ state: 'built', days, raw_rows: 1 }]);

  const periods: [number, number][] = [];
  const verified = await verifyRollup({
    ...job(),
    onPeriod: (_, done, total) => periods.push([done, total]),
  });
  expect(verified).toMatchObject({ periods: days, rows: 1, keys: 1, driftKeys: 0 });
  expect(periods).toEqual([
    [days - 1, days],
    [days, days],
  ]);
  expect(await known()).toEqual([{ state: 'verified', days, raw_rows: 1 }]);

  expect(await runBackfill(job())).toMatchObject({ periods: 0, checked: days, rows: 1 });
  expect(await known()).toEqual([{ state: 'verified', days, raw_rows: 1 }]);
});

it('of a month of Exa are built and verified too', async () => {
  const exa = { ...job(), rollup: EXA_ROLLUP };
  const { periods } = await runBackfill(exa);
  expect(periods).toBeGreaterThan(3);
  expect(await verifyRollup(exa)).toMatchObject({ periods, keys: 0 });
  expect(await known(EXA_ROLLUP)).toEqual([{ state: 'verified', days: periods, raw_rows: 0 }]);
});

it('by dimension are proven too, and the others compared', async () => {
  await addRaw(await dayBefore(3));
  const built = await buildDimensions(dimensionJob());
  expect(built).toMatchObject({ wrongDays: 1, found: { rows: 1 } });
  const days = built.found.periods;
  expect(await known(DIMENSIONS)).toEqual([{ state: 'verified', days, raw_rows: 1 }]);
  expect(await verifyDimensions(dimensionJob())).toMatchObject({ periods: days, driftKeys: 0 });
});

it('are none with a raw row, or a counter row alone', async () => {
  const [raw, orphan] = [await dayBefore(5), await dayBefore(6)];
  await addRaw(raw);
  await fixture.rows(
    `insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
     values ($1, $2, 7)`,
    [await fixture.addUser(), orphan],
  );
  const { drifts } = await verifyRollup(job());
  // Each by a worker of its own: told in the order in which they are found.
  expect(new Map(drifts.map(({ period, kind }) => [period, kind]))).toEqual(
    new Map([
      [raw, 'missing'],
      [orphan, 'orphan'],
    ]),
  );
  for (const day of [raw, orphan]) {
    expect(await coverageOf(day)).toMatchObject({ state: 'unbuilt', drift_keys: 1 });
  }
});

it('of which drift was known are compared by themselves, and are right then', async () => {
  const day = await dayBefore(5);
  await fixture.rows(
    `insert into rollup_coverage (rollup, period, state, drift_keys) values ($1, $2, 'unbuilt', 1)`,
    [DAILY_ROLLUP.name, day],
  );
  await verifyRollup(job());
  expect(await coverageOf(day)).toMatchObject({ state: 'verified', drift_keys: 0 });
});

it('stay archived', async () => {
  const day = await dayBefore(40);
  for (const { name } of [DAILY_ROLLUP, DIMENSIONS]) {
    await fixture.rows(
      `insert into rollup_coverage (rollup, period, state, raw_rows) values ($1, $2, 'archived', 9)`,
      [name, day],
    );
  }
  await runBackfill(job());
  await verifyRollup(job());
  await buildDimensions(dimensionJob());
  expect(await coverageOf(day)).toMatchObject({ state: 'archived' });
  expect(await coverageOf(day, DIMENSIONS)).toMatchObject({ state: 'archived', raw_rows: '9' });
});

it('that another worker has claimed are left to it', async () => {
  const [day, worker] = [await dayBefore(5), randomUUID()];
  await fixture.rows(
    `insert into rollup_coverage (rollup, period, state, claimed_by, claimed_until)
     values ($1, $2, 'building', $3, now() + interval '1 hour')`,
    [DAILY_ROLLUP.name, day, worker],
  );
  const end = new AbortController();
  // Waits for the claim to run out.
  const running = runBackfill({ ...job(), signal: end.signal });
  await expect.poll(() => known()).toMatchObject([{ state: 'building', days: 1 }, {}]);
  end.abort();
  await running;
  expect(await coverageOf(day)).toMatchObject({ state: 'building', claimed_by: worker });
});
