import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';
import { compareStatement } from '../../src/report/shadow.sql.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import {
  createFilledFixture,
  dayOf,
  daysAgo,
  FIRST,
  type FilledFixture,
  LAST,
  reportedTotals,
} from './archiveHarness.js';

let fixture: FilledFixture;

beforeEach(async () => {
  fixture = await createFilledFixture();
});

afterEach(() => fixture.close());

/** Stops after so many chunks, as a run that was interrupted. */
const stopAfter = (chunks: number) => {
  const abort = new AbortController();
  let moved = 0;
  return {
    signal: abort.signal,
    limits: { rowsPerFile: 20, rowsPerTransaction: 3 },
    onStep: (step: string) => {
      if (step === 'moved' && ++moved === chunks) abort.abort();
    },
  };
};

describe('with half a day archived', () => {
  beforeEach(async () => {
    await fixture.archive(LAST, stopAfter(3));
    const raw = await fixture.rows<{ count: string }>(
      `select count(*) from microdollar_usage where created_at < $1::date + 1`,
      [FIRST],
    );
    const all = fixture.events.filter((event) => dayOf(event) === FIRST).length;
    expect(Number(raw[0]?.count)).toBeGreaterThan(0);
    expect(Number(raw[0]?.count)).toBeLessThan(all);
  });

  it('totals, verify and balances are right', async () => {
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    const { url } = fixture.database;
    expect((await verifyRollup({ url, rollup: DAILY_ROLLUP })).drifts).toEqual([]);
    const balances = await verifyBalances({ url });
    expect(balances).toMatchObject({ drifted: 0, checked: 5 });
  });

  it('repair changes nothing on a clean day, and restores a total that was damaged', async () => {
    const { url } = fixture.database;
    const before = await reportedTotals(fixture);
    expect(await repairRollup({ url, rollup: DAILY_ROLLUP })).toMatchObject({ repaired: 0 });
    await fixture.rows(
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 9
       where usage_date = $1`,
      [FIRST],
    );
    const repaired = await repairRollup({ url, rollup: DAILY_ROLLUP });
    expect(repaired.repaired).toBeGreaterThan(0);
    expect(repaired.left?.drifts).toEqual([]);
    expect(await reportedTotals(fixture)).toEqual(before);
  });

  it('raw reads and rollup reads answer the same', async () => {
    for (const user of ['ann', 'bob', 'cid', 'zero']) {
      const answers = await Promise.all(
        (['raw', 'rollup'] as const).map(async (source) => {
          const total = threeMonthTotalStatement(source, user, null);
          const [row] = await fixture.rows<{ total_cost_microdollars: string }>(
            total.text,
            total.values,
          );
          const query = { kiloUserId: user, from: FIRST, until: daysAgo(0) };
          const days = [];
          for (const organizationId of [null, fixture.organization]) {
            const daily = dailyUsageStatement(source, { ...query, organizationId });
            const found = await fixture.rows<Record<string, unknown>>(daily.text, daily.values);
            days.push(found.map((each) => [each.usage_date, each.total_cost_microdollars]));
          }
          return { total: row?.total_cost_microdollars, days };
        }),
      );
      expect(answers[0]).toEqual(answers[1]);
      const shadow = compareStatement({
        kiloUserId: user,
        organizationId: null,
        from: null,
        until: null,
        asOf: null,
      });
      expect(await fixture.rows(shadow.text, shadow.values)).toMatchObject([
        { different_days: '0' },
      ]);
    }
  });

  it('a second run takes up the file that was left, and ends exact', async () => {
    const report = await fixture.archive(LAST);
    expect(report.filesTakenUp).toBe(1);
    const files = (await fixture.archived()).map((event) => event.id);
    expect(new Set(files).size).toBe(files.length);
    expect([...files, ...(await fixture.rawIds())].sort()).toEqual(
      fixture.events.map((event) => event.id).sort(),
    );
    await fixture.expectExact();
  });
});
