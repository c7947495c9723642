import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import {
  type Began,
  beginVerifyStatement,
  saveVerifiedStatement,
} from '../../src/rollup/coverage.sql.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP, EXA_ROLLUP } from '../../src/schema/rollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, once, type TestDatabase } from '../support/database.js';

const ORGANIZATION = '00000000-0000-4000-8000-0000000000bb';
const DAY = '2026-10-05';
const EMPTY_DAY = '2026-10-01';

let database: TestDatabase;
let ledger: Ledger;

/** The days of the events and a few before: the whole window is verified where that is asked. */
const daily = () => ({
  url: database.url,
  rollup: DAILY_ROLLUP,
  workers: 1,
  from: EMPTY_DAY,
  until: '2026-10-14',
});
const verify = () => verifyRollup(daily());
const repair = () => repairRollup(daily());

/** Three users, two scopes, ten days; `u1` spent 100 x 30 personally on the DAY. */
const seededDatabase = once(async () => {
  const database = await createTestDatabase({ kept: true });
  await database.pool.query(`insert into kilocode_users (id) values ('u1'), ('u2'), ('u3')`);
  await database.pool.query(`insert into organizations (id, name) values ($1, 'o')`, [
    ORGANIZATION,
  ]);
  await database.pool.query(
    `insert into organization_memberships (organization_id, kilo_user_id)
     select $1::uuid, id from kilocode_users`,
    [ORGANIZATION],
  );
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  const events = Array.from({ length: 300 }, (_, index) => ({
    kilo_user_id: `u${1 + (index % 3)}`,
    organization_id: index % 10 === 9 ? ORGANIZATION : null,
    cost: 100,
    created_at: new Date(Date.parse(`${DAY}T12:00:00Z`) + Math.floor(index / 30) * 86_400_000),
  }));
  const results = await ledger.recordUsageBatch(events);
  expect(results.every((result) => result.status === 'recorded')).toBe(true);
  await ledger.fold();
  await ledger.close();
  await database.drop();
  return database.name;
});

beforeEach(async () => {
  database = await createTestDatabase({ template: await seededDatabase() });
  ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
});

afterEach(async () => {
  await ledger.close();
  await database.drop();
});

describe('a clean database', () => {
  it('yields no finding, also while writers run and rows are unsettled', async () => {
    const writing = Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        ledger.recordUsage({ kilo_user_id: 'u1', cost: index, created_at: `${DAY}T01:00:00Z` }),
      ),
    );
    const everything = { url: database.url, rollup: DAILY_ROLLUP };
    const report = await verifyRollup(everything);
    await writing;
    expect(report.drifts).toEqual([]);
    expect((await verifyRollup(everything)).drifts).toEqual([]);
    expect(report.periods).toBeGreaterThanOrEqual(10);
    expect((await verifyBalances({ url: database.url })).drifts).toEqual([]);
    expect((await verifyRollup({ url: database.url, rollup: EXA_ROLLUP })).drifts).toEqual([]);
  });

  it('is not proven by the usage of one user', async () => {
    const url = database.url;
    await verifyRollup({ url, rollup: DAILY_ROLLUP, kiloUserId: 'u2' });
    const proven = () =>
      database.pool.query('select from rollup_coverage where verified_at is not null');
    expect((await proven()).rowCount).toBe(0);
    await verify();
    expect((await proven()).rowCount).toBeGreaterThan(0);
  });

  it('may have unsettled rows at the very position below which all is settled', async () => {
    await ledger.recordUsage({ kilo_user_id: 'u1', cost: 5, created_at: `${DAY}T01:00:00Z` });
    const session = await database.pool.connect();
    try {
      // The next row of u1 stays unsettled: somebody holds its counter row.
      await session.query('begin');
      await session.query(`select from kilocode_users where id = 'u1' for update`);
      await ledger.recordUsage({ kilo_user_id: 'u1', cost: 7, created_at: `${DAY}T02:00:00Z` });
      await database.pool.query(
        `update ledger_settings set settled_everywhere_below = (
           select max(position) from microdollar_usage where cost = 7)`,
      );
      expect((await verify()).drifts).toEqual([]);
    } finally {
      await session.query('rollback');
      session.release();
    }
  });
});

/** Damage, and what verification must say about it: kind, drift in microdollars, cause. */
const DAMAGES: readonly [string, string[], { kind: string; drift: number; cause: RegExp }][] = [
  [
    'a total was raised',
    [
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 7
       where kilo_user_id = 'u1' and usage_date = '${DAY}' and organization_id is null`,
    ],
    { kind: 'wrong', drift: 7, cause: /total raised/ },
  ],
  [
    'a total was lowered',
    [
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars - 13
       where kilo_user_id = 'u1' and usage_date = '${DAY}' and organization_id = '${ORGANIZATION}'`,
    ],
    { kind: 'wrong', drift: -13, cause: /total was lowered/ },
  ],
  [
    'a row was deleted',
    [
      `delete from microdollar_usage_daily
       where kilo_user_id = 'u2' and usage_date = '${DAY}' and organization_id is null`,
    ],
    { kind: 'missing', drift: -900, cause: /the row deleted/ },
  ],
  [
    'a row was deleted while rows of its key are unsettled',
    [
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
       values ('00000000-0000-4000-8000-00000000d001', 'u2', 50, '${DAY}T10:00:00Z',
         microdollar_position())`,
      `delete from microdollar_usage_daily
       where kilo_user_id = 'u2' and usage_date = '${DAY}' and organization_id is null`,
    ],
    { kind: 'missing', drift: -900, cause: /while rows of its key were unsettled/ },
  ],
  [
    'an orphan row was planted',
    [
      `insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
       values ('u3', '${EMPTY_DAY}', 55)`,
    ],
    { kind: 'orphan', drift: 55, cause: /without raw rows/ },
  ],
  [
    'a raw row was inserted behind the back',
    [
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       values ('00000000-0000-4000-8000-00000000d002', 'u3', 321, '${DAY}T10:00:00Z')`,
    ],
    { kind: 'wrong', drift: -321, cause: /00000000-0000-4000-8000-00000000d002 is not counted/ },
  ],
  [
    'a raw row was deleted',
    [
      `delete from microdollar_usage
       where id = (select id from microdollar_usage
         where kilo_user_id = 'u1' and organization_id is null
           and created_at = '${DAY}T12:00:00Z' limit 1)`,
    ],
    { kind: 'wrong', drift: 100, cause: /raw row deleted/ },
  ],
  [
    'a mark was raised over a row that no counter has',
    [
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
       values ('00000000-0000-4000-8000-00000000d003', 'u1', 77, '${DAY}T10:00:00Z',
         microdollar_position())`,
      `update kilocode_users set settled_below = microdollar_position() where id = 'u1'`,
    ],
    { kind: 'wrong', drift: -77, cause: /d003 is not counted/ },
  ],
];

describe('planted damage', () => {
  it.each(DAMAGES)(
    '%s: is found to the microdollar, repaired, found no more',
    async (...damage) => {
      const [, statements, expected] = damage;
      for (const statement of statements) await database.pool.query(statement);
      const found = await verify();
      expect(found.driftKeys).toBe(1);
      expect(found.drifts).toMatchObject([
        { kind: expected.kind, driftMicrodollars: expected.drift },
      ]);
      expect(found.drifts[0]?.likelyCause).toMatch(expected.cause);
      expect(found.driftMicrodollars).toBe(BigInt(Math.abs(expected.drift)));

      const repaired = await repair();
      expect(repaired.left?.driftKeys).toBe(0);
      expect((await verify()).drifts).toEqual([]);
      const { rows } = await database.pool.query(
        `select before_microdollars::int - after_microdollars::int as drift, cause from rollup_repairs`,
      );
      expect(rows.reduce((sum, row) => sum + row.drift, 0)).toBe(expected.drift);
      expect(rows[0].cause).toContain(expected.kind);

      expect((await repair()).repaired).toBe(0);
      await ledger.fold();
      expect((await verify()).drifts).toEqual([]);
      // What was planted in raw usage moves the true balance as well.
      await verifyBalances({ url: database.url, repair: true });
      expect(await checkInvariants(database.pool)).toEqual([]);
    },
  );

  it('is looked for only where it was asked', async () => {
    await database.pool.query(
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 5
       where usage_date = '${DAY}' and organization_id is null`,
    );
    const url = database.url;
    const one = await verifyRollup({ url, rollup: DAILY_ROLLUP, kiloUserId: 'u2' });
    expect(one.drifts.map((drift) => drift.kiloUserId)).toEqual(['u2']);
    const later = await verifyRollup({ url, rollup: DAILY_ROLLUP, from: '2026-10-06' });
    expect(later.drifts).toEqual([]);
    const all = await verifyRollup({ url, rollup: DAILY_ROLLUP, from: DAY, until: DAY });
    expect(all.driftKeys).toBe(3);
    const fixed = await repairRollup({ url, rollup: DAILY_ROLLUP, kiloUserId: 'u2' });
    expect(fixed.repaired).toBe(1);
    expect((await verify()).driftKeys).toBe(2);
  });

  it('in a row that another session holds is left for the next repair', async () => {
    await database.pool.query(
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 5
       where usage_date = '${DAY}' and organization_id is null and kilo_user_id in ('u1', 'u2')`,
    );
    const holder = await database.pool.connect();
    await holder.query('begin');
    await holder.query(`select from microdollar_usage_daily where kilo_user_id = 'u1' for update`);
    const first = await repair();
    expect(first).toMatchObject({ repaired: 1, left: { driftKeys: 1 } });
    await holder.query('rollback');
    holder.release();
    expect(await repair()).toMatchObject({ repaired: 1, left: { driftKeys: 0 } });
  });
});

describe('an adopted month of Exa', () => {
  it('that was charged request by request is set right, so that no later event pays for it', async () => {
    const month = `date_trunc('month', now() at time zone 'UTC')::date`;
    await database.pool.query(
      `insert into exa_usage_log (id, kilo_user_id, cost, path)
       values (gen_random_uuid(), 'u1', 130, '/search')`,
    );
    await database.pool.query(
      `insert into exa_monthly_usage (kilo_user_id, month, total_cost_microdollars,
         total_charged_microdollars, request_count, free_allowance_microdollars)
       values ('u1', ${month}, 130, 0, 1, 100)`,
    );
    const options = { url: database.url, rollup: EXA_ROLLUP };
    expect((await verifyRollup(options)).driftKeys).toBe(1);
    expect((await repairRollup(options)).repaired).toBe(1);
    expect((await verifyRollup(options)).driftKeys).toBe(0);
    await verifyBalances({ url: database.url, repair: true });
    const before = await ledger.getUserBalance('u1');
    await ledger.recordExaUsage({ kilo_user_id: 'u1', cost: 1, path: '/search' });
    expect(await ledger.getUserBalance('u1')).toBe(Number(before) + 1);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });
});

describe('an organization whose id is all zeros', () => {
  it('is told from none: personal totals and its own are separate keys (I8)', async () => {
    const zeros = '00000000-0000-0000-0000-000000000000';
    await database.pool.query(`insert into organizations (id, name) values ($1, 'zeros')`, [zeros]);
    const event = { kilo_user_id: 'u1', created_at: `${DAY}T10:00:00Z` };
    await ledger.recordUsageBatch([
      { ...event, cost: 5 },
      { ...event, organization_id: zeros, cost: 70 },
    ]);
    await ledger.fold();
    expect((await verify()).drifts).toEqual([]);
    await database.pool.query('delete from microdollar_usage_daily where organization_id = $1', [
      zeros,
    ]);
    const found = await verify();
    expect(found.drifts).toMatchObject([{ organizationId: zeros, driftMicrodollars: -70 }]);
    await repair();
    expect((await verify()).drifts).toEqual([]);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });
});

describe('two verifications at once', () => {
  it('a clean one that began before the damage does not hide what the later one found', async () => {
    const control = openRollupDatabase(database.url, 1);
    try {
      const [began] = await control.query<Began>(beginVerifyStatement(DAILY_ROLLUP, DAY));
      await database.pool.query(
        `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
         values (gen_random_uuid(), 'u1', 777, '${DAY}T10:00:00Z')`,
      );
      expect((await verify()).driftKeys).toBe(1);
      const clean = { period: DAY, rawRows: 30, rawCost: '3000', driftKeys: 0, drift: '0', began };
      await control.query(saveVerifiedStatement(DAILY_ROLLUP, clean));
      const { rows } = await database.pool.query(
        `select drift_keys, verified_at from rollup_coverage where period = '${DAY}'
           and rollup = 'microdollar_usage_daily'`,
      );
      expect(rows).toEqual([{ drift_keys: 1, verified_at: null }]);
    } finally {
      await control.close();
    }
  });
});

describe('the proof of balances', () => {
  it('finds a changed balance of a user and of an organization, and repairs it', async () => {
    await database.pool.query(
      `update kilocode_users set microdollars_used = microdollars_used + 9 where id = 'u2'`,
    );
    await database.pool.query('update organizations set microdollars_used = microdollars_used - 4');
    const found = await verifyBalances({ url: database.url });
    expect(found.drifts).toMatchObject([
      { scope: 'kilocode_users', id: 'u2', driftMicrodollars: 9 },
      { scope: 'organizations', id: ORGANIZATION, driftMicrodollars: -4 },
    ]);
    expect(await verifyBalances({ url: database.url, repair: true })).toMatchObject({
      drifted: 2,
      repaired: 2,
    });
    expect((await verifyBalances({ url: database.url })).drifts).toEqual([]);
    const { rows } = await database.pool.query('select counter from rollup_repairs order by 1');
    expect(rows).toEqual([{ counter: 'kilocode_users' }, { counter: 'organizations' }]);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });

  it('is repaired once by however many at the same time', async () => {
    await database.pool.query(
      `insert into kilocode_users (id, microdollars_used) select 'off-' || i, i
       from generate_series(1, 60) as i`,
    );
    const repairs = await Promise.all(
      Array.from({ length: 4 }, () => verifyBalances({ url: database.url, repair: true })),
    );
    expect(repairs.reduce((sum, { repaired }) => sum + repaired, 0)).toBe(60);
    const { rows } = await database.pool.query(
      `select count(*)::int as wrong from kilocode_users
       where id like 'off-%' and microdollars_used <> 0`,
    );
    expect(rows).toEqual([{ wrong: 0 }]);
  });

  it('derives the opening balance of an adopted payer, once', async () => {
    await database.pool.query(
      `insert into kilocode_users (id, microdollars_used, opening_microdollars_used)
       values ('adopted', 5000, null)`,
    );
    await database.pool.query(
      `insert into microdollar_usage (id, kilo_user_id, cost) values
       (gen_random_uuid(), 'adopted', 1200)`,
    );
    expect(await verifyBalances({ url: database.url })).toMatchObject({ unopened: 1, drifted: 0 });
    expect(await verifyBalances({ url: database.url, repair: true })).toMatchObject({ opened: 1 });
    const { rows } = await database.pool.query(
      `select opening_microdollars_used::int as opening from kilocode_users where id = 'adopted'`,
    );
    expect(rows).toEqual([{ opening: 3800 }]);
    expect(await verifyBalances({ url: database.url, repair: true })).toMatchObject({ opened: 0 });
  });

  it('derives an opening balance also beside archived and Exa usage', async () => {
    await database.pool.query(
      `insert into kilocode_users (id, microdollars_used, opening_microdollars_used)
       values ('adopted', 0, null)`,
    );
    await database.pool.query(
      `insert into exa_usage_log (id, kilo_user_id, cost, path)
       values (gen_random_uuid(), 'adopted', 130, '/search')`,
    );
    await database.pool.query(
      `insert into exa_monthly_usage (kilo_user_id, month, total_cost_microdollars,
         total_charged_microdollars, request_count, free_allowance_microdollars)
       values ('adopted', date_trunc('month', now() at time zone 'UTC')::date, 130, 30, 1, 100)`,
    );
    await database.pool.query(
      `insert into microdollar_usage_daily
         (kilo_user_id, usage_date, total_cost_microdollars, archived_cost_microdollars)
       values ('adopted', '2025-01-01', 500, 500)`,
    );
    expect(await verifyBalances({ url: database.url, repair: true })).toMatchObject({ opened: 1 });
    const { rows } = await database.pool.query(
      `select opening_microdollars_used::int as opening from kilocode_users where id = 'adopted'`,
    );
    expect(rows).toEqual([{ opening: -530 }]);
    expect((await verifyBalances({ url: database.url })).drifts).toEqual([]);
  });

  it('goes on from its checkpoint', async () => {
    await database.pool.query(
      `insert into kilocode_users (id) select 'many-' || i from generate_series(1, 500) as i`,
    );
    const abort = new AbortController();
    const first = await verifyBalances({
      url: database.url,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    expect(first.checked).toBeLessThan(504);
    const rest = await verifyBalances({ url: database.url, resume: true });
    expect(first.checked + rest.checked).toBe(504);
  });
});
