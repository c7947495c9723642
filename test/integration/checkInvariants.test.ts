import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';

const ORGANIZATION = '00000000-0000-4000-8000-00000000000a';
const USAGE_1 = '00000000-0000-4000-8000-000000000001';
const USAGE_3 = '00000000-0000-4000-8000-000000000003';
const KEY = 'user=u1 organization=- usage_date';
const DAY = `${KEY}=2026-03-01`;
const NEXT_DAY = `${KEY}=2026-03-02`;
const ORGANIZATION_DAY = `user=u1 organization=${ORGANIZATION} usage_date=2026-03-01`;
const APRIL = 'user=u1 organization=- month=2026-04-01';
/** Positions of the first generation; every database is past these transaction ids. */
const at = (xid: number) => String((1n << 44n) + BigInt(xid));

let database: TestDatabase;
const run = (text: string) => database.pool.query(text);

/**
 * A small ledger that is exact: rows in place, folded, unsettled above the mark and as an
 * exception below it, archived, refunds, an organization, Exa.
 */
const EXACT_LEDGER = `
  update ledger_settings set exa_free_allowance_microdollars = 200;
  insert into kilocode_users (id, opening_microdollars_used, microdollars_used, settled_below,
    settled_except, exa_settled_below)
  values ('u1', 1000, 1000 + 70 + 500 + 20, ${at(30)}, '{${at(20)}}', ${at(30)}),
    ('u2', 0, 0, 0, '{}', 0);
  insert into organizations (id, name, microdollars_used, settled_below)
  values ('${ORGANIZATION}', 'o', 40, ${at(50)});
  insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at, position)
  values
    ('${USAGE_1}', 'u1', null, 100, '2026-03-01T23:59:59.999Z', null),
    ('00000000-0000-4000-8000-000000000002', 'u1', null, -30, '2026-03-01T00:00:00Z', ${at(10)}),
    ('${USAGE_3}', 'u1', null, 7, '2026-03-02T00:00:00Z', ${at(40)}),
    ('00000000-0000-4000-8000-000000000006', 'u1', null, 3, '2026-03-02T01:00:00Z', ${at(20)}),
    ('00000000-0000-4000-8000-000000000004', 'u1', '${ORGANIZATION}', 40,
      '2026-03-02T01:30:00+02:00', ${at(40)}),
    ('00000000-0000-4000-8000-000000000005', 'u1', null, 0, '2026-03-05T00:00:00Z', ${at(5)});
  insert into microdollar_usage_metadata (id, kilo_user_id) values ('${USAGE_1}', 'u1');
  insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date,
    total_cost_microdollars, archived_cost_microdollars)
  values
    ('u1', null, '2026-03-01', 70, 0),
    ('u1', null, '2025-01-01', 500, 500),
    ('u1', '${ORGANIZATION}', '2026-03-01', 40, 0);
  insert into exa_usage_log (id, kilo_user_id, cost, path, created_at, position)
  values
    ('00000000-0000-4000-8000-000000000011', 'u1', 120, '/search', '2026-03-31T23:59:59Z', null),
    ('00000000-0000-4000-8000-000000000012', 'u1', 0, '/search', '2026-03-01T00:00:00Z', null),
    ('00000000-0000-4000-8000-000000000013', 'u1', 250, '/search', '2026-04-01T00:00:00Z', ${at(35)});
  insert into exa_monthly_usage (kilo_user_id, month, total_cost_microdollars,
    total_charged_microdollars, request_count, free_allowance_microdollars)
  values ('u1', '2026-03-01', 120, 20, 1, 100);`;

/** The same, with what was unsettled in its counter rows. */
const FOLD_BY_HAND = `
  insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
  values ('u1', '2026-03-02', 10);
  insert into exa_monthly_usage (kilo_user_id, month, total_cost_microdollars,
    total_charged_microdollars, request_count, free_allowance_microdollars)
  values ('u1', '2026-04-01', 250, 50, 1, 200);
  update kilocode_users
  set microdollars_used = microdollars_used + 10 + 50, settled_below = ${at(41)},
    settled_except = '{}', exa_settled_below = ${at(41)}
  where id = 'u1';`;

beforeEach(async () => {
  database = await createTestDatabase();
  await run(EXACT_LEDGER);
});

afterEach(() => database.drop());

interface Damage {
  name: string;
  damage: string;
  reported: string[];
}

const IN_COUNTERS: Damage[] = [
  {
    name: 'a daily row that is wrong by 5',
    damage: `update microdollar_usage_daily set total_cost_microdollars = 75
        where usage_date = '2026-03-01' and organization_id is null`,
    reported: [
      `I2 ${DAY}: reported 75, expected 70 (raw 70, archived 0), drift 5`,
      `base daily ${DAY}: reported 75, expected 70 (raw 70, archived 0), drift 5`,
    ],
  },
  {
    name: 'a daily row that is gone',
    damage: `delete from microdollar_usage_daily where organization_id is not null`,
    reported: [
      `I2 ${ORGANIZATION_DAY}: reported 0, expected 40 (raw 40, archived 0), drift -40, missing`,
      `base daily ${ORGANIZATION_DAY}: reported 0, expected 40 (raw 40, archived 0), ` +
        'drift -40, missing',
    ],
  },
  {
    name: 'a daily row that nothing explains',
    damage: `insert into microdollar_usage_daily
        (kilo_user_id, usage_date, total_cost_microdollars) values ('u2', '2026-03-09', 11)`,
    reported: ['I2', 'base daily'].map(
      (name) =>
        `${name} user=u2 organization=- usage_date=2026-03-09: reported 11, expected 0 ` +
        '(raw 0, archived 0), drift 11, orphan',
    ),
  },
  {
    name: 'archived cost that its total does not include',
    damage: `update microdollar_usage_daily set archived_cost_microdollars = 503
        where usage_date = '2025-01-01'`,
    reported: [
      `I2 ${KEY}=2025-01-01: reported 500, expected 503 (raw 0, archived 503), drift -3`,
      'I5 user=u1: reported 1650, expected 1653 ' +
        '(opening 1000, usage 80, archived 503, exa charged 70), drift -3',
      'base balance user=u1: reported 1590, expected 1593 ' +
        '(opening 1000, usage 70, archived 503, exa charged 20), drift -3',
      `base daily ${KEY}=2025-01-01: reported 500, expected 503 (raw 0, archived 503), drift -3`,
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
      'I5 user=u1: reported 1651, expected 1650 ' +
        '(opening 1000, usage 80, archived 500, exa charged 70), drift 1',
      'base balance user=u1: reported 1591, expected 1590 ' +
        '(opening 1000, usage 70, archived 500, exa charged 20), drift 1',
    ],
  },
  {
    name: 'an organization balance that is wrong by -40',
    damage: `update organizations set microdollars_used = 0`,
    reported: ['I5', 'base balance'].map(
      (name) =>
        `${name} organization=${ORGANIZATION}: reported 0, expected 40 ` +
        '(opening 0, usage 40, archived 0, exa charged 0), drift -40',
    ),
  },
  {
    name: 'an Exa month that is wrong in cost and count',
    damage: `update exa_monthly_usage
        set total_cost_microdollars = 121, request_count = 2 where month = '2026-03-01'`,
    reported: [
      'Exa user=u1 organization=- month=2026-03-01: reported cost 121 charged 21 requests 2, ' +
        'expected cost 120 charged 20 requests 1',
      // The counter row still says 20: a settle would move what the view adds.
      'I5 user=u1: reported 1651, expected 1650 ' +
        '(opening 1000, usage 80, archived 500, exa charged 70), drift 1',
      'base Exa user=u1 organization=- month=2026-03-01: reported cost 121 charged 20 requests 2, ' +
        'expected cost 120 charged 20 requests 1',
    ],
  },
];

const IN_LOGS: Damage[] = [
  {
    name: 'a raw row that no rollup and no balance knows',
    damage: `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
        values ('00000000-0000-4000-8000-000000000007', 'u2', 9, '2026-03-01T00:00:00Z')`,
    reported: [
      'I2 user=u2 organization=- usage_date=2026-03-01: reported 0, expected 9 ' +
        '(raw 9, archived 0), drift -9, missing',
      'I5 user=u2: reported 0, expected 9 ' +
        '(opening 0, usage 9, archived 0, exa charged 0), drift -9',
      'base balance user=u2: reported 0, expected 9 ' +
        '(opening 0, usage 9, archived 0, exa charged 0), drift -9',
      'base daily user=u2 organization=- usage_date=2026-03-01: reported 0, expected 9 ' +
        '(raw 9, archived 0), drift -9, missing',
    ],
  },
  {
    name: 'an unsettled row that became one of the counters',
    damage: `update microdollar_usage set position = null where id = '${USAGE_3}'`,
    reported: [
      `I2 ${NEXT_DAY}: reported 3, expected 10 (raw 10, archived 0), drift -7`,
      'I5 user=u1: reported 1643, expected 1650 ' +
        '(opening 1000, usage 80, archived 500, exa charged 70), drift -7',
      'base balance user=u1: reported 1590, expected 1597 ' +
        '(opening 1000, usage 77, archived 500, exa charged 20), drift -7',
      `base daily ${NEXT_DAY}: reported 0, expected 7 (raw 7, archived 0), drift -7, missing`,
    ],
  },
  {
    name: 'cost of a user that does not exist',
    damage: `delete from kilocode_users where id = 'u2';
        insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
        values ('00000000-0000-4000-8000-000000000007', 'u2', 4, '2026-03-03T00:00:00Z',
          ${at(45)})`,
    reported: [
      'I2 user=u2 organization=- usage_date=2026-03-03: reported 0, expected 4 ' +
        '(raw 4, archived 0), drift -4, missing',
      'I5 user=u2: no such user, but 4 microdollars in microdollar_usage',
    ],
  },
  {
    name: 'an Exa request that no month knows',
    damage: `insert into exa_usage_log (id, kilo_user_id, cost, path, created_at)
        values ('00000000-0000-4000-8000-000000000014', 'u2', 205, '/x', '2026-03-01T00:00:00Z')`,
    reported: [
      'Exa user=u2 organization=- month=2026-03-01: reported cost 0 charged 0 requests 0, ' +
        'expected cost 205 charged 5 requests 1',
      'I5 user=u2: reported 0, expected 5 ' +
        '(opening 0, usage 0, archived 0, exa charged 5), drift -5',
      'base Exa user=u2 organization=- month=2026-03-01: reported cost 0 charged 0 requests 0, ' +
        'expected cost 205 charged 5 requests 1',
      'base balance user=u2: reported 0, expected 5 ' +
        '(opening 0, usage 0, archived 0, exa charged 5), drift -5',
    ],
  },
  {
    name: 'metadata without its usage row',
    damage: `insert into microdollar_usage_metadata (id, kilo_user_id)
        values ('00000000-0000-4000-8000-0000000000ff', 'u1')`,
    reported: ['I1 metadata id=00000000-0000-4000-8000-0000000000ff: no usage row'],
  },
];

const IN_MARKS: Damage[] = [
  {
    name: 'a mark that rose without its counter rows',
    damage: `update kilocode_users set settled_below = ${at(41)} where id = 'u1'`,
    reported: [
      `I2 ${NEXT_DAY}: reported 3, expected 10 (raw 10, archived 0), drift -7`,
      'I5 user=u1: reported 1643, expected 1650 ' +
        '(opening 1000, usage 80, archived 500, exa charged 70), drift -7',
      'base balance user=u1: reported 1590, expected 1597 ' +
        '(opening 1000, usage 77, archived 500, exa charged 20), drift -7',
      `base daily ${NEXT_DAY}: reported 0, expected 7 (raw 7, archived 0), drift -7, missing`,
    ],
  },
  {
    name: 'a mark that fell: what was folded counts again',
    damage: `update organizations set settled_below = ${at(40)}`,
    reported: [
      `I2 ${ORGANIZATION_DAY}: reported 80, expected 40 (raw 40, archived 0), drift 40`,
      `I5 organization=${ORGANIZATION}: reported 80, expected 40 ` +
        '(opening 0, usage 40, archived 0, exa charged 0), drift 40',
      `base balance organization=${ORGANIZATION}: reported 40, expected 0 ` +
        '(opening 0, usage 0, archived 0, exa charged 0), drift 40',
      `base daily ${ORGANIZATION_DAY}: reported 40, expected 0 (raw 0, archived 0), ` +
        'drift 40, orphan',
    ],
  },
  {
    name: 'an exception that was forgotten',
    damage: `update kilocode_users set settled_except = '{}' where id = 'u1'`,
    reported: [
      `I2 ${NEXT_DAY}: reported 7, expected 10 (raw 10, archived 0), drift -3`,
      'I5 user=u1: reported 1647, expected 1650 ' +
        '(opening 1000, usage 80, archived 500, exa charged 70), drift -3',
      'base balance user=u1: reported 1590, expected 1593 ' +
        '(opening 1000, usage 73, archived 500, exa charged 20), drift -3',
      `base daily ${NEXT_DAY}: reported 0, expected 3 (raw 3, archived 0), drift -3, missing`,
    ],
  },
  {
    name: 'an exception at the mark, and one that is null',
    damage: `update organizations set settled_except = array[${at(50)}, null]::bigint[]`,
    reported: [
      `mark of organization ${ORGANIZATION} for microdollar_usage: exception ${at(50)}, ` +
        `mark ${at(50)}`,
      `mark of organization ${ORGANIZATION} for microdollar_usage: exception null, ` +
        `mark ${at(50)}`,
    ],
  },
  {
    name: 'unsettled rows below settled_everywhere_below',
    damage: `update ledger_settings set settled_everywhere_below = ${at(36)}`,
    reported: [
      `microdollar_usage 00000000-0000-4000-8000-000000000006: unsettled at ${at(20)}, ` +
        `below settled_everywhere_below ${at(36)}`,
    ],
  },
];

describe('checkInvariants', () => {
  it('finds nothing in an exact ledger, whatever the time zone of the session', async () => {
    expect(await checkInvariants(database.pool)).toEqual([]);
    const pool = openPool({
      connectionString: database.url,
      options: '-c timezone=Pacific/Auckland',
    });
    expect(await checkInvariants(pool)).toEqual([]);
    await pool.end();
  });

  for (const { name, damage, reported } of [...IN_COUNTERS, ...IN_LOGS, ...IN_MARKS]) {
    it(`reports ${name}`, async () => {
      await run(damage);
      expect(await checkInvariants(database.pool)).toEqual(reported);
    });
  }

  it('reports a mark ahead of every transaction', async () => {
    await run(`update kilocode_users set exa_settled_below = ${at(2 ** 43)} where id = 'u2'`);
    const found = await checkInvariants(database.pool);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(
      `mark of person u2 for exa_usage_log: ${at(2 ** 43)}, the present is`,
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
  it('finds nothing once everything is settled', async () => {
    await run(FOLD_BY_HAND);
    expect(await checkFolded(database.pool)).toEqual([]);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });

  it('reports what is unsettled, and every base table it is missing from', async () => {
    expect(await checkFolded(database.pool)).toEqual([
      `folded Exa ${APRIL}: ` +
        'reported cost 0 charged 0 requests 0, expected cost 250 charged 50 requests 1',
      'folded balance user=u1: reported 1590, expected 1650 ' +
        '(opening 1000, usage 80, archived 500, exa charged 70), drift -60',
      `folded daily ${NEXT_DAY}: reported 0, expected 10 (raw 10, archived 0), drift -10, missing`,
      'folded: 1 unsettled rows in exa_usage_log',
      'folded: 2 unsettled rows in microdollar_usage',
    ]);
  });

  it('reports a monthly row whose charge was not folded into it', async () => {
    await run(FOLD_BY_HAND);
    await run(`update exa_monthly_usage set total_charged_microdollars = 0
      where month = '2026-04-01'`);
    expect(await checkFolded(database.pool)).toEqual([
      `folded Exa ${APRIL}: ` +
        'reported cost 250 charged 0 requests 1, expected cost 250 charged 50 requests 1',
    ]);
  });
});
