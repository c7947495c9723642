import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { repairDimensions, verifyDimensions } from '../../src/rollup/dimensions/prove.js';
import { DAILY_BY_USER, DIMENSION_ROLLUPS } from '../../src/schema/dimensionRollups.js';
import { type CounterDamage, counterDamage } from '../support/counterDamage.js';
import { findDifferences } from '../support/dimensionTruth.js';
import { daysAgo } from './archiveHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

const { name } = DAILY_BY_USER;
let fixture: LedgerFixture;
let ledger: Ledger;
const begin = async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
};
const end = () => fixture.close();

const RANGE = { from: daysAgo(20), until: daysAgo(0) };
const options = (rollup = DAILY_BY_USER) => ({
  url: fixture.database.url,
  rollup,
  workers: 1,
  ...RANGE,
});
const foldAll = () =>
  new DimensionFolder({ query: queryOnPool(fixture.database.pool, true) }).foldAll();

/** Planted in a row of ann. */
const DAMAGE: CounterDamage[] = [
  ...counterDamage(name),
  ['errors were changed', `update ${name} set errors = errors - 1 where id = $1`, ['wrong']],
  [
    'a row was planted',
    `insert into ${name} (id, kilo_user_id, period_start, cost_microdollars, requests, errors,
       input_tokens, output_tokens, cache_hit_tokens, cache_write_tokens)
     select gen_random_uuid(), kilo_user_id, period_start + interval '2 days', 5, 1, 0, 0, 0, 0, 0
     from ${name} where id = $1`,
    ['orphan'],
  ],
  ["a row is another's", `update ${name} set kilo_user_id = 'bob' where id = $1`, ['wrong']],
  [
    'a row is of another payer',
    `update ${name} set organization_id = (select id from organizations) where id = $1`,
    ['wrong'],
  ],
  [
    'a row was moved within its day',
    `update ${name} set period_start = period_start + interval '3 hours' where id = $1`,
    ['wrong'],
  ],
];

describe('damage', () => {
  let reports: () => Promise<unknown[]>;
  let truth: unknown[];

  /** One ledger for all: each leaves it as it was, which its last lines see. */
  beforeAll(async () => {
    await begin();
    for (const id of ['ann', 'bob']) await fixture.addUser(id);
    const organization_id = await fixture.addOrganization();
    for (let index = 0; index < 24; index++) {
      await ledger.recordUsage({
        kilo_user_id: index % 4 === 3 ? 'bob' : 'ann',
        organization_id: index % 3 === 2 ? organization_id : null,
        cost: 100 + index,
        model: `m${index % 2}`,
        created_at: `${daysAgo(8 - 3 * (index % 2))}T${String(index % 24).padStart(2, '0')}:00:00Z`,
      });
    }
    const payers = [
      { kilo_user_id: 'ann' },
      { kilo_user_id: 'bob' },
      { organization_id },
      { organization_id, by: ['member' as const] },
    ];
    // One after the other: on one connection, which plans each once.
    reports = async () => {
      const answers: unknown[] = [];
      for (const zone of ['UTC', 'Asia/Kathmandu']) {
        for (const payer of payers) {
          const { rows, total } = await ledger.getUsageReport({ ...payer, ...RANGE, zone });
          answers.push({ rows, total });
        }
      }
      return answers;
    };
    truth = await reports();
    await foldAll();
    for (const rollup of DIMENSION_ROLLUPS) {
      expect(await verifyDimensions(options(rollup))).toMatchObject({ driftKeys: 0, rows: 24 });
    }
    expect(await reports()).toEqual(truth);
  });
  afterAll(end);

  it.each(DAMAGE)(
    '%s: found, not reported from then on, and repaired',
    async (_, damage, kinds) => {
      const [row] = await fixture.rows<{ id: string }>(
        `select id from ${name} where kilo_user_id = 'ann' and organization_id is null
       order by period_start limit 1`,
      );
      await fixture.rows(damage, [row?.id]);
      const found = await verifyDimensions(options());
      expect(new Set(found.drifts.map(({ kind }) => kind))).toEqual(new Set(kinds));
      expect(await reports()).toEqual(truth);
      expect((await repairDimensions(options())).left?.driftKeys).toBe(0);
      expect((await verifyDimensions(options())).driftKeys).toBe(0);
      expect(await reports()).toEqual(truth);
      await foldAll();
      expect(await findDifferences(fixture.database.pool, DAILY_BY_USER, 'counters')).toEqual([]);
    },
  );
});

describe('one user', () => {
  beforeEach(begin);
  afterEach(end);

  it.each(DIMENSION_ROLLUPS)('$name is compared and repaired of them alone', async (rollup) => {
    for (const id of ['ann', 'bob']) await fixture.addUser(id);
    const organization_id = await fixture.addOrganization();
    const created_at = `${daysAgo(5)}T10:00:00Z`;
    for (const kilo_user_id of ['ann', 'bob']) {
      for (const payer of [null, organization_id]) {
        await ledger.recordUsage({ kilo_user_id, organization_id: payer, cost: 100, created_at });
      }
    }
    await foldAll();
    await verifyDimensions(options(rollup));
    await fixture.rows(`update ${rollup.name} set cost_microdollars = cost_microdollars + 1`);
    const ofAnn = { ...options(rollup), kiloUserId: 'ann' };
    const wrong = { rows: 2, keys: 2, driftKeys: 2, driftMicrodollars: 2n };
    expect(await verifyDimensions(ofAnn)).toMatchObject({
      ...wrong,
      drifts: Array(2).fill({ kind: 'wrong', kiloUserId: 'ann' }),
    });
    // Nothing is proven of the others, and the day is not reported from.
    const noted = () =>
      fixture.rows(
        `select raw_rows::int, drift_keys, verified_at is null as is_open from rollup_coverage
       where rollup = $1 and period = $2`,
        [rollup.name, daysAgo(5)],
      );
    expect(await noted()).toEqual([{ raw_rows: 4, drift_keys: 2, is_open: true }]);
    expect(await repairDimensions(ofAnn)).toMatchObject({
      found: wrong,
      changed: 2,
      left: { driftKeys: 0 },
    });
    expect(await verifyDimensions(ofAnn)).toMatchObject({ rows: 2, driftKeys: 0 });
    expect(await noted()).toMatchObject([{ drift_keys: 2, is_open: true }]);
    const others = await verifyDimensions(options(rollup));
    expect(others).toMatchObject({ rows: 4, drifts: Array(2).fill({ kiloUserId: 'bob' }) });
    expect(await repairDimensions({ ...options(rollup), kiloUserId: 'bob' })).toMatchObject({
      changed: 2,
    });
    expect(await verifyDimensions(options(rollup))).toMatchObject({ rows: 4, driftKeys: 0 });
    expect(await noted()).toMatchObject([{ drift_keys: 0, is_open: false }]);
  });
});
