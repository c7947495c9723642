import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { planArchive } from '../../src/rollup/archive/plan.js';
import { planBackfill, runBackfill } from '../../src/rollup/backfill.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP, EXA_ROLLUP } from '../../src/schema/rollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { runCommand } from './cliHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

const DAY = '2026-03-05';
const LARGEST = 2n ** 63n - 1n;

let fixture: LedgerFixture;

beforeEach(async () => {
  fixture = await createLedgerFixture();
  await fixture.addUser('innocent');
  await fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     select gen_random_uuid(), 'innocent', 7, $1::date + i * interval '1 hour'
     from generate_series(0, 9) as i`,
    [DAY],
  );
});

afterEach(() => fixture.close());

const everyDay = () => ({ url: fixture.database.url, rollup: DAILY_ROLLUP });
const daily = () => ({ ...everyDay(), from: DAY, until: DAY });

/** Raw rows as another program may have them. */
async function insertRaw(user: string, cost: bigint, count: number, at = `${DAY}T12:00:00Z`) {
  await fixture.addUser(user);
  await fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     select gen_random_uuid(), $1, $2::bigint, $3::timestamptz from generate_series(1, $4::integer)`,
    [user, String(cost), at, count],
  );
}

const command = async (...argv: string[]) => {
  const directory = await mkdtemp(join(tmpdir(), 'microdollar-extremes-'));
  const env = { DATABASE_URL: fixture.database.url, MICRODOLLAR_DATA_DIR: directory };
  const { status, stdout } = await runCommand(env, '--json', ...argv);
  await rm(directory, { recursive: true, force: true });
  return { status, document: JSON.parse(stdout) };
};

describe('sums past 2^63', () => {
  it('of a day, each user below it, are built, verified, repaired and kept exactly', async () => {
    const cost = 2n ** 53n - 1n;
    for (const user of ['u1', 'u2', 'u3']) await insertRaw(user, cost, 600);
    const sum = 1_800n * cost + 70n;
    const before = await verifyRollup(daily());
    expect(before).toMatchObject({ driftKeys: 4, driftMicrodollars: sum, failures: [] });
    expect(await runBackfill(daily())).toMatchObject({ created: 4, left: 0, failures: [] });
    expect((await verifyRollup(daily())).drifts).toEqual([]);
    const [coverage] = await fixture.rows<{ cost: string }>(
      'select raw_cost_microdollars as cost from rollup_coverage where period = $1',
      [DAY],
    );
    expect(BigInt(coverage?.cost ?? 0)).toBe(sum);
    await fixture.rows('update microdollar_usage_daily set total_cost_microdollars = 0');
    expect(await repairRollup(daily())).toMatchObject({ repaired: 4, left: { driftKeys: 0 } });
    const { drifts, repaired } = await verifyBalances({ ...daily(), repair: true });
    expect(drifts.map((drift) => drift.driftMicrodollars)).toContainEqual(-600n * cost);
    expect(repaired).toBe(4);
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
  });

  it('of one key are named, and the other keys of its day are built and repaired', async () => {
    await insertRaw('extreme', LARGEST, 3);
    const built = await runBackfill(daily());
    expect(built).toMatchObject({ created: 1, left: 1, unfit: 1, failures: [] });
    for (const found of [
      await verifyRollup(daily()),
      (await repairRollup(daily())).left ?? (await verifyRollup(daily())),
    ]) {
      expect(found.drifts).toMatchObject([
        { kiloUserId: 'extreme', kind: 'missing', fits: false, driftMicrodollars: -3n * LARGEST },
      ]);
      expect(found.drifts[0]?.likelyCause).toContain('more than a counter row can hold');
    }
    const reported = await fixture.rows(
      `select kilo_user_id, total_cost_microdollars::integer as total
       from microdollar_usage_daily_exact`,
    );
    expect(reported).toEqual([{ kilo_user_id: 'innocent', total: 70 }]);
  });

  it('of one payer leave the other balances provable and repairable', async () => {
    await insertRaw('extreme', LARGEST, 3);
    const report = await verifyBalances({ ...daily(), repair: true });
    expect(report).toMatchObject({ checked: 2, drifted: 2, repaired: 1 });
    expect(report.failures).toEqual([
      { scope: 'kilocode_users', id: 'extreme', message: expect.stringContaining('cannot hold') },
    ]);
    expect(await verifyBalances(daily())).toMatchObject({ drifted: 1 });
    await fixture.rows(
      `update kilocode_users set opening_microdollars_used = null where id = 'extreme'`,
    );
    const opening = await verifyBalances({ ...daily(), repair: true });
    expect(opening).toMatchObject({ opened: 0, unopened: 1, failures: [{ id: 'extreme' }] });
  });

  it('of a month of Exa are left as well, and its other keys built', async () => {
    for (const user of ['extreme', 'innocent']) {
      if (user === 'extreme') await fixture.addUser(user);
      await fixture.rows(
        `insert into exa_usage_log (id, kilo_user_id, cost, path, created_at)
         select gen_random_uuid(), $1, $2::bigint, '/search', $3::date
         from generate_series(1, 2)`,
        [user, user === 'extreme' ? String(LARGEST) : '5', DAY],
      );
    }
    const exa = { ...daily(), rollup: EXA_ROLLUP };
    expect(await runBackfill(exa)).toMatchObject({ created: 1, unfit: 1 });
    expect((await verifyRollup(exa)).drifts).toMatchObject([
      { kiloUserId: 'extreme', fits: false },
    ]);
  });

  it('end commands with 1, as decimal strings', async () => {
    await insertRaw('extreme', LARGEST, 3);
    const sum = String(3n * LARGEST);
    const range = ['--from', DAY, '--until', DAY];
    const backfill = await command('backfill', ...range);
    expect(backfill.status).toBe(1);
    expect(backfill.document.rollups[0]).toMatchObject({ created: 1, left: 1, unfit: 1 });
    const verify = await command('verify', ...range);
    expect(verify.status).toBe(1);
    expect(verify.document.rollups[0]).toMatchObject({
      drift_microdollars: sum,
      drifts: [{ true_microdollars: sum, drift_microdollars: `-${sum}`, repairable: false }],
    });
    const repair = await command('repair', ...range);
    expect(repair.status).toBe(1);
    expect(repair.document).toMatchObject({ repaired: 0, left_drift_keys: 1, unfit_keys: 1 });
    const dryRun = await command('repair', '--dry-run', ...range);
    expect(dryRun).toMatchObject({ status: 1, document: { dry_run: true, drift_keys: 1 } });
    const balances = await command('repair', '--balances');
    expect(balances).toMatchObject({ status: 1, document: { failures: [{ id: 'extreme' }] } });
    const none = await command('verify', '--user', 'nobody');
    expect(none).toMatchObject({ document: { error: { code: 'unknown_user' } } });
    expect(none.status).not.toBe(0);
  });
});

/** Rows at the ends of time, and where no event may be any more; each day costs its own period. */
const ANCIENT = [
  '0001-01-01T12:00:00Z',
  '4000-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999999Z',
  '0044-03-15T12:00:00Z BC',
  '294275-06-01T00:00:00Z',
  'infinity',
  '-infinity',
];

describe('days far from all others', () => {
  /** Days from the start of the three-month window until today, and the DAY. */
  async function usualDays(): Promise<number> {
    const [row] = await fixture.rows<{ days: number }>(
      `select (now() at time zone 'UTC')::date
         - ((now() at time zone 'UTC')::date - interval '3 months')::date + 1 as days`,
    );
    return (row?.days ?? 0) + 1;
  }

  it('cost one period each, and are built, verified and repaired like others', async () => {
    for (const [index, at] of ANCIENT.entries()) await insertRaw(`old-${index}`, 11n, 2, at);
    const days = (await usualDays()) + ANCIENT.length;
    const plan = await planBackfill(everyDay());
    expect(plan).toMatchObject({ periods: days, from: '-infinity', until: 'infinity' });
    const built = await runBackfill({ ...everyDay(), workers: 4 });
    expect(built).toMatchObject({
      periods: days,
      created: ANCIENT.length + 1,
      left: 0,
      failures: [],
    });
    const verified = await verifyRollup(everyDay());
    expect(verified).toMatchObject({ periods: days, drifts: [], failures: [] });
    expect(verified.rows).toBe(10 + 2 * ANCIENT.length);
    await fixture.rows('update microdollar_usage_daily set total_cost_microdollars = 1');
    expect(await repairRollup(everyDay())).toMatchObject({ left: { driftKeys: 0 } });
    await verifyBalances({ ...everyDay(), repair: true });
    await fixture.expectExact();
  });

  it('are planned for the archive sparsely', async () => {
    await insertRaw('old', 11n, 2, '0001-01-01T12:00:00Z');
    await runBackfill(everyDay());
    await verifyRollup(everyDay());
    const directory = await mkdtemp(join(tmpdir(), 'microdollar-extremes-'));
    const plan = await planArchive({ url: fixture.database.url, until: DAY, directory });
    expect(plan.days.map(({ day }) => day)).toEqual(['0001-01-01', DAY]);
    expect(plan.blockers).toEqual([]);
    await rm(directory, { recursive: true });
  });

  it('that no date arithmetic reaches fail by name, and keep nothing else from its proof', async () => {
    await insertRaw('last', 11n, 2, '294276-12-31T23:59:59.999999Z');
    const built = await runBackfill(everyDay());
    expect(built.failures).toMatchObject([{ period: '294276-12-31' }]);
    expect(built).toMatchObject({ created: 1, periods: await usualDays() });
    const verified = await verifyRollup(everyDay());
    expect(verified.failures).toMatchObject([{ period: '294276-12-31' }]);
    expect(verified).toMatchObject({ drifts: [], periods: await usualDays() });
    expect((await command('verify')).status).toBe(1);
    const backfill = await command('backfill');
    expect(backfill.status).toBe(1);
    expect(backfill.document.rollups[0].failures).toMatchObject([{ period: '294276-12-31' }]);
  });
});
