import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runBackfill } from '../../src/rollup/backfill.js';
import type { ChunkLimits } from '../../src/rollup/chunkSizer.js';
import { openRollupDatabase, type RollupDatabase } from '../../src/rollup/database.js';
import { rebuildInSlices } from '../../src/rollup/rebuild.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { compareInSlices } from '../../src/rollup/slices.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP, EXA_ROLLUP } from '../../src/schema/rollups.js';
import { openSessions, type Session } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** No day is read by one statement, and no more than 50 rows of a user. */
const LIMITS: ChunkLimits = { rowsPerStatement: 0, rowsPerUser: 50, rowsPerSlice: 20 };
const DAY = '2026-03-05';
const BUSY = 'busy';
const ROWS = 400;

let fixture: LedgerFixture;
let organization: string;

beforeEach(async () => {
  fixture = await createLedgerFixture();
  for (const id of ['a', BUSY, 'c']) await fixture.addUser(id);
  organization = await fixture.addOrganization();
});

afterEach(() => fixture.close());

const rows = (text: string, values: unknown[] = []) => fixture.rows(text, values);
const options = () => ({
  url: fixture.database.url,
  rollup: DAILY_ROLLUP,
  from: DAY,
  until: DAY,
  limits: LIMITS,
});

/**
 * Raw rows of the busy user over the day: a third of them the organization's, every seventh a
 * refund, and a quarter of the day's at one and the same instant. Few rows of two neighbours.
 */
async function writeBusyDay(position = 'null'): Promise<void> {
  await rows(
    `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at, position)
     select gen_random_uuid(), $2, case when i % 3 = 0 then $3::uuid end,
       case when i % 7 = 0 then -i else i end,
       $4::date::timestamp at time zone 'UTC' + case when i % 4 = 0 then interval '6 hours'
         else i * interval '86399 seconds' / $1 end, ${position}
     from generate_series(1, $1::integer) as i`,
    [ROWS, BUSY, organization, DAY],
  );
  await rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     select gen_random_uuid(), u, 5, $1::date::timestamp at time zone 'UTC' + i * interval '1 hour'
     from unnest(array['a', 'c']) as u, generate_series(1, 20) as i`,
    [DAY],
  );
}

/** Sets balances right: they are no matter of the rollup. */
async function expectExact(): Promise<void> {
  await rows(
    `update kilocode_users set microdollars_used = (
       select coalesce(sum(cost), 0) from microdollar_usage as m
       where m.kilo_user_id = kilocode_users.id and organization_id is null
         and (position is null or position < settled_below))`,
  );
  await rows(
    `update organizations set microdollars_used = (
       select coalesce(sum(cost), 0) from microdollar_usage as m
       where m.organization_id = organizations.id
         and (position is null or position < settled_below))`,
  );
  await fixture.expectExact();
}

describe("a user's day that is too large for one statement", () => {
  it('is built in slices where it has no counter row, and its neighbours as ever', async () => {
    await writeBusyDay();
    const report = await runBackfill(options());
    expect(report).toMatchObject({ created: 2, corrected: 2, left: 0, failures: [] });
    expect(report.rows).toBe(ROWS + 40);
    expect((await verifyRollup(options())).drifts).toEqual([]);
    await expectExact();
  });

  it('is set right where its counter rows are wrong, by backfill and by repair', async () => {
    await writeBusyDay();
    await runBackfill(options());
    for (const correct of [runBackfill, repairRollup]) {
      await rows(
        `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 7
         where usage_date = $1`,
        [DAY],
      );
      const found = await verifyRollup(options());
      expect(found.driftKeys).toBe(4);
      expect(
        found.drifts.filter((drift) => drift.isLarge).map((drift) => drift.kiloUserId),
      ).toEqual([BUSY, BUSY]);
      for (const drift of found.drifts) {
        expect(drift).toMatchObject({ kind: 'wrong', driftMicrodollars: 7 });
      }
      await correct(options());
      expect((await verifyRollup(options())).drifts).toEqual([]);
    }
    const audited = await rows('select kilo_user_id from rollup_repairs order by 1');
    expect(audited).toHaveLength(4);
    await expectExact();
  });

  it('is repaired where its row is missing, and where it is an orphan beside it', async () => {
    await writeBusyDay();
    await runBackfill(options());
    await rows(`delete from microdollar_usage_daily where kilo_user_id = $1`, [BUSY]);
    const other = await fixture.addOrganization();
    await rows(
      `insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date,
         total_cost_microdollars) values ($1, $2, $3, 99)`,
      [BUSY, other, DAY],
    );
    const found = await verifyRollup(options());
    expect(found.drifts.map(({ kind }) => kind).sort()).toEqual(['missing', 'missing', 'orphan']);
    expect((await repairRollup(options())).left?.driftKeys).toBe(0);
    await expectExact();
  });

  it('has unsettled rows, which are no part of its counter row', async () => {
    await writeBusyDay('microdollar_position()');
    expect((await verifyRollup(options())).drifts.map((drift) => drift.kiloUserId)).toEqual([
      'a',
      'c',
    ]);
    await runBackfill(options());
    expect((await verifyRollup(options())).drifts).toEqual([]);
    const report = await verifyRollup({ ...options(), kiloUserId: BUSY });
    expect(report).toMatchObject({ rows: ROWS, keys: 2, driftKeys: 0 });
    await expectExact();
  });

  it('is the same for Exa, by month', async () => {
    await rows(
      `insert into exa_usage_log (id, kilo_user_id, cost, path, created_at)
       select gen_random_uuid(), $2, i * 50000, '/search',
         $3::date::timestamp at time zone 'UTC' + i * interval '1 hour'
       from generate_series(1, $1::integer) as i`,
      [ROWS / 2, BUSY, DAY],
    );
    const exa = { ...options(), rollup: EXA_ROLLUP };
    await runBackfill(exa);
    expect((await verifyRollup(exa)).drifts).toEqual([]);
    await rows('update exa_monthly_usage set request_count = 3, total_charged_microdollars = 0');
    expect((await repairRollup(exa)).left?.driftKeys).toBe(0);
    await rows(
      `update kilocode_users set microdollars_used = (
         select sum(total_charged_microdollars) from exa_monthly_usage) where id = $1`,
      [BUSY],
    );
    await fixture.expectExact();
  });
});

describe('slices beside live writers', () => {
  let database: RollupDatabase;

  beforeEach(() => {
    database = openRollupDatabase(fixture.database.url, 2);
  });

  afterEach(() => database.close());

  const of = { period: DAY, kiloUserId: BUSY };

  it('are of one snapshot: what comes between two of them is no drift', async () => {
    await writeBusyDay();
    await runBackfill(options());
    const ledger = await fixture.open();
    let slices = 0;
    const between: Pick<RollupDatabase, 'transaction'> = {
      transaction: (run, how) =>
        database.transaction(async (query) => {
          return await run(async (statement) => {
            const result = await query(statement);
            if (statement.text.includes('sumSlice')) {
              slices++;
              const event = { kilo_user_id: BUSY, cost: 1_000, created_at: `${DAY}T00:00:01Z` };
              await ledger.recordUsage(event);
              await ledger.recordUsage({ ...event, created_at: `${DAY}T23:59:59Z` });
              await ledger.fold();
            }
            return result as never;
          });
        }, how),
    };
    const compared = await compareInSlices(between, DAILY_ROLLUP, of, LIMITS.rowsPerSlice);
    expect(slices).toBeGreaterThan(3);
    expect(compared).toMatchObject({ wrong: '0', raw_rows: String(ROWS) });
    await expectExact();
  });

  it('have usage locked before their snapshot: no partition of it goes in between', async () => {
    await using sessions = await openSessions(fixture.database.url, 1);
    const [other] = sessions.all as [Session];
    await other.run(`set lock_timeout = '50ms'`);
    const lock = 'lock table only microdollar_usage in access exclusive mode';
    for (const snapshot of ['read', 'write'] as const) {
      const drop = () => other.run(`do $$ begin ${lock}; end $$`);
      const dropped = database.transaction(drop, { snapshot });
      await expect(dropped).rejects.toMatchObject({ code: '55P03' });
    }
  });

  it('set a row under its lock: a fold leaves the payer, a writer appends, and both are exact', async () => {
    await writeBusyDay();
    await runBackfill(options());
    await rows(
      'update microdollar_usage_daily set total_cost_microdollars = 3 where kilo_user_id = $1',
      [BUSY],
    );
    const [counter] = await fixture.rows<{ id: string }>(
      `select id from microdollar_usage_daily where kilo_user_id = $1 and organization_id is null`,
      [BUSY],
    );
    const ledger = await fixture.open();
    let appended = 0;
    const between: Pick<RollupDatabase, 'transaction'> = {
      transaction: (run, how) =>
        database.transaction(async (query) => {
          return await run(async (statement) => {
            const result = await query(statement);
            if (statement.text.includes('sumSlice')) {
              await ledger.recordUsage({
                kilo_user_id: BUSY,
                cost: 10,
                created_at: `${DAY}T12:00:00Z`,
              });
              appended++;
              expect(await ledger.fold()).toMatchObject({ remaining: appended });
            }
            return result as never;
          });
        }, how),
    };
    const id = counter?.id ?? '';
    const rebuilt = await rebuildInSlices(between, DAILY_ROLLUP, id, undefined, 100);
    expect(rebuilt).toMatchObject({ locked: 0, rows: [{ kilo_user_id: BUSY }] });
    expect(appended).toBeGreaterThan(2);
    await repairRollup(options());
    await expectExact();
  });

  it('leave a row that somebody holds', async () => {
    await writeBusyDay();
    await runBackfill(options());
    await rows(
      'update microdollar_usage_daily set total_cost_microdollars = 3 where kilo_user_id = $1',
      [BUSY],
    );
    const holder = await fixture.database.pool.connect();
    await holder.query('begin');
    await holder.query('select from microdollar_usage_daily where kilo_user_id = $1 for update', [
      BUSY,
    ]);
    expect(await runBackfill(options())).toMatchObject({ left: 2, corrected: 0 });
    await holder.query('rollback');
    holder.release();
    expect(await runBackfill(options())).toMatchObject({ left: 0, corrected: 2 });
    await expectExact();
  });
});
