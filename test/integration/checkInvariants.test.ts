import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

const ORGANIZATION = '00000000-0000-4000-8000-00000000000a';
const USAGE_1 = '00000000-0000-4000-8000-000000000001';
const DAY = 'user=u1 organization=- usage_date=2026-03-01';
const ORGANIZATION_DAY = `user=u1 organization=${ORGANIZATION} usage_date=2026-03-01`;

let database: TestDatabase;
const run = (text: string) => database.pool.query(text);

/** A small ledger that is exact: in place, pending, archived, refunds, organization, Exa. */
const EXACT_LEDGER = `
  insert into kilocode_users (id, opening_microdollars_used, microdollars_used)
  values ('u1', 1000, 1000 + 70 + 500 + 20), ('u2', 0, 0);
  insert into organizations (id, name, microdollars_used)
  values ('${ORGANIZATION}', 'o', 40);
  insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at)
  values
    ('${USAGE_1}', 'u1', null, 100, '2026-03-01T23:59:59.999Z'),
    ('00000000-0000-4000-8000-000000000002', 'u1', null, -30, '2026-03-01T00:00:00Z'),
    ('00000000-0000-4000-8000-000000000003', 'u1', null, 7, '2026-03-02T00:00:00Z'),
    ('00000000-0000-4000-8000-000000000004', 'u1', '${ORGANIZATION}', 40,
      '2026-03-02T01:30:00+02:00'),
    ('00000000-0000-4000-8000-000000000005', 'u1', null, 0, '2026-03-05T00:00:00Z');
  insert into microdollar_usage_metadata (id, kilo_user_id) values ('${USAGE_1}', 'u1');
  insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date,
    total_cost_microdollars, archived_cost_microdollars)
  values
    ('u1', null, '2026-03-01', 70, 0),
    ('u1', null, '2025-01-01', 500, 500),
    ('u1', '${ORGANIZATION}', '2026-03-01', 40, 0);
  insert into microdollar_usage_pending (kilo_user_id, usage_date, cost_microdollars)
  values ('u1', '2026-03-02', 7);
  insert into exa_usage_log (id, kilo_user_id, cost, path, created_at)
  values
    ('00000000-0000-4000-8000-000000000011', 'u1', 120, '/search', '2026-03-31T23:59:59Z'),
    ('00000000-0000-4000-8000-000000000012', 'u1', 0, '/search', '2026-03-01T00:00:00Z'),
    ('00000000-0000-4000-8000-000000000013', 'u1', 250, '/search', '2026-04-01T00:00:00Z');
  insert into exa_monthly_usage (kilo_user_id, month, total_cost_microdollars,
    total_charged_microdollars, request_count, free_allowance_microdollars)
  values ('u1', '2026-03-01', 120, 20, 1, 100);
  insert into microdollar_usage_pending (kilo_user_id, exa_month, cost_microdollars,
    request_count, free_allowance_microdollars)
  values ('u1', '2026-04-01', 250, 1, 200);`;

/** The same, with what was pending in its counter rows. */
const FOLD_BY_HAND = `
  delete from microdollar_usage_pending;
  insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
  values ('u1', '2026-03-02', 7);
  insert into exa_monthly_usage (kilo_user_id, month, total_cost_microdollars,
    total_charged_microdollars, request_count, free_allowance_microdollars)
  values ('u1', '2026-04-01', 250, 50, 1, 200);
  update kilocode_users set microdollars_used = microdollars_used + 7 + 50 where id = 'u1';`;

beforeEach(async () => {
  database = await createTestDatabase();
  await run(EXACT_LEDGER);
});

afterEach(() => database.drop());

describe('checkInvariants', () => {
  it('finds nothing in an exact ledger, whatever the time zone of the session', async () => {
    expect(await checkInvariants(database.pool)).toEqual([]);
    const pool = new pg.Pool({
      connectionString: database.url,
      options: '-c timezone=Pacific/Auckland',
    });
    expect(await checkInvariants(pool)).toEqual([]);
    await pool.end();
  });

  const damages: { name: string; damage: string; reported: string[] }[] = [
    {
      name: 'a daily row that is wrong by 5',
      damage: `update microdollar_usage_daily set total_cost_microdollars = 75
        where usage_date = '2026-03-01' and organization_id is null`,
      reported: [`I2 ${DAY}: reported 75, expected 70 (raw 70, archived 0), drift 5`],
    },
    {
      name: 'a daily row that is gone',
      damage: `delete from microdollar_usage_daily where organization_id is not null`,
      reported: [
        `I2 ${ORGANIZATION_DAY}: reported 0, expected 40 (raw 40, archived 0), drift -40, missing`,
      ],
    },
    {
      name: 'a daily row that nothing explains',
      damage: `insert into microdollar_usage_daily
        (kilo_user_id, usage_date, total_cost_microdollars) values ('u2', '2026-03-09', 11)`,
      reported: [
        'I2 user=u2 organization=- usage_date=2026-03-09: reported 11, expected 0 ' +
          '(raw 0, archived 0), drift 11, orphan',
      ],
    },
    {
      name: 'a raw row that no rollup and no balance knows',
      damage: `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
        values ('00000000-0000-4000-8000-000000000006', 'u2', 9, '2026-03-01T00:00:00Z')`,
      reported: [
        'I2 user=u2 organization=- usage_date=2026-03-01: reported 0, expected 9 ' +
          '(raw 9, archived 0), drift -9, missing',
        'I5 user=u2: reported 0, expected 9 ' +
          '(opening 0, usage 9, archived 0, exa charged 0), drift -9',
      ],
    },
    {
      name: 'archived cost that its total does not include',
      damage: `update microdollar_usage_daily set archived_cost_microdollars = 503
        where usage_date = '2025-01-01'`,
      reported: [
        'I2 user=u1 organization=- usage_date=2025-01-01: reported 500, expected 503 ' +
          '(raw 0, archived 503), drift -3',
        'I5 user=u1: reported 1647, expected 1650 ' +
          '(opening 1000, usage 77, archived 503, exa charged 70), drift -3',
      ],
    },
    {
      name: 'a key with two rows',
      damage: `drop index uq_microdollar_usage_daily_personal;
        insert into microdollar_usage_daily
          (kilo_user_id, usage_date, total_cost_microdollars) values ('u1', '2026-03-01', 0)`,
      reported: [`I8 microdollar_usage_daily ${DAY}: 2 rows`],
    },
    {
      name: 'a balance that is wrong by 1',
      damage: `update kilocode_users set microdollars_used = microdollars_used + 1
        where id = 'u1'`,
      reported: [
        'I5 user=u1: reported 1648, expected 1647 ' +
          '(opening 1000, usage 77, archived 500, exa charged 70), drift 1',
      ],
    },
    {
      name: 'an organization balance that is wrong by -40',
      damage: `update organizations set microdollars_used = 0`,
      reported: [
        `I5 organization=${ORGANIZATION}: reported 0, expected 40 ` +
          '(opening 0, usage 40, archived 0, exa charged 0), drift -40',
      ],
    },
    {
      name: 'a pending row that is lost',
      damage: `delete from microdollar_usage_pending where usage_date is not null`,
      reported: [
        'I2 user=u1 organization=- usage_date=2026-03-02: reported 0, expected 7 ' +
          '(raw 7, archived 0), drift -7, missing',
        'I5 user=u1: reported 1640, expected 1647 ' +
          '(opening 1000, usage 77, archived 500, exa charged 70), drift -7',
      ],
    },
    {
      name: 'a balance function that differs from its view',
      damage: `create or replace function microdollar_user_balance(p_kilo_user_id text)
        returns bigint language sql stable as $$ select 3::bigint $$`,
      reported: [
        'I5 user=u1: microdollar_user_balance 3, kilocode_user_balances 1647',
        'I5 user=u2: microdollar_user_balance 3, kilocode_user_balances 0',
      ],
    },
    {
      name: 'cost of a user that does not exist',
      damage: `delete from kilocode_users where id = 'u2';
        insert into microdollar_usage_pending (kilo_user_id, usage_date, cost_microdollars)
        values ('u2', '2026-03-03', 4);
        insert into microdollar_usage (id, kilo_user_id, cost, created_at)
        values ('00000000-0000-4000-8000-000000000007', 'u2', 4, '2026-03-03T00:00:00Z')`,
      reported: [
        'I5 user=u2: no such user, but 4 microdollars in microdollar_usage',
        'I5 user=u2: no such user, but 4 microdollars in microdollar_usage_pending',
      ],
    },
    {
      name: 'an Exa month that is wrong in cost and count',
      damage: `update exa_monthly_usage
        set total_cost_microdollars = 121, request_count = 2 where month = '2026-03-01'`,
      reported: [
        'Exa user=u1 organization=- month=2026-03-01: reported cost 121 charged 21 requests 2, ' +
          'expected cost 120 charged 20 requests 1',
        // The counter row still says 20: folding would move what the view adds.
        'I5 user=u1: reported 1648, expected 1647 ' +
          '(opening 1000, usage 77, archived 500, exa charged 70), drift 1',
      ],
    },
    {
      name: 'an Exa request that no month knows',
      damage: `insert into exa_usage_log (id, kilo_user_id, cost, path, created_at)
        values ('00000000-0000-4000-8000-000000000014', 'u2', 5, '/x', '2026-03-01T00:00:00Z')`,
      reported: [
        'Exa user=u2 organization=- month=2026-03-01: reported cost 0 charged 0 requests 0, ' +
          'expected cost 5 charged 5 requests 1',
        'I5 user=u2: reported 0, expected 5 ' +
          '(opening 0, usage 0, archived 0, exa charged 5), drift -5',
      ],
    },
    {
      name: 'metadata without its usage row',
      damage: `insert into microdollar_usage_metadata (id, kilo_user_id)
        values ('00000000-0000-4000-8000-0000000000ff', 'u1')`,
      reported: ['I1 metadata id=00000000-0000-4000-8000-0000000000ff: no usage row'],
    },
    {
      name: 'a pending row of no kind',
      damage: `insert into microdollar_usage_pending (id, kilo_user_id, cost_microdollars)
        values ('00000000-0000-4000-8000-0000000000aa', 'u2', 0)`,
      reported: [
        'pending row 00000000-0000-4000-8000-0000000000aa: ' +
          'must have either usage_date or exa_month',
      ],
    },
  ];

  for (const { name, damage, reported } of damages) {
    it(`reports ${name}`, async () => {
      await run(damage);
      expect(await checkInvariants(database.pool)).toEqual(reported);
    });
  }

  it('reports pending rows below the floor of their payer', async () => {
    await run(`delete from microdollar_usage_pending;
      insert into microdollar_usage_pending (id, xid, kilo_user_id, usage_date, cost_microdollars)
      values ('00000000-0000-4000-8000-0000000000bb', '5', 'u1', '2026-03-02', 7);
      update kilocode_users set pending_floor = '6' where id = 'u1'`);
    expect(await checkInvariants(database.pool)).toContain(
      'pending_floor user=u1: pending row 00000000-0000-4000-8000-0000000000bb ' +
        'of 7 microdollars, xid 5 below floor 6',
    );
  });

  it('sees one snapshot: a consistent change half committed elsewhere is not seen', async () => {
    const writer = await database.pool.connect();
    await writer.query('begin');
    await writer.query(`insert into microdollar_usage (id, kilo_user_id, cost, created_at)
      values ('00000000-0000-4000-8000-000000000008', 'u2', 3, '2026-03-03T00:00:00Z')`);
    expect(await checkInvariants(database.pool)).toEqual([]);
    await writer.query('rollback');
    writer.release();
  });
});

describe('checkFolded', () => {
  it('finds nothing once everything pending is in its row', async () => {
    await run(FOLD_BY_HAND);
    expect(await checkFolded(database.pool)).toEqual([]);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });

  it('reports what is pending, and every base table it is missing from', async () => {
    expect(await checkFolded(database.pool)).toEqual([
      'folded Exa user=u1 organization=- month=2026-04-01: ' +
        'reported cost 0 charged 0 requests 0, expected cost 250 charged 50 requests 1',
      'folded daily user=u1 organization=- usage_date=2026-03-02: ' +
        'reported 0, expected 7 (raw 7, archived 0), drift -7, missing',
      'folded user=u1: row 1590, view 1647',
      'folded: 2 pending rows',
    ]);
  });

  it('reports a monthly row whose charge was not folded into it', async () => {
    await run(FOLD_BY_HAND);
    await run(`update exa_monthly_usage set total_charged_microdollars = 0
      where month = '2026-04-01'`);
    expect(await checkFolded(database.pool)).toEqual([
      'folded Exa user=u1 organization=- month=2026-04-01: ' +
        'reported cost 250 charged 0 requests 1, expected cost 250 charged 50 requests 1',
    ]);
  });
});
