import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyBalances } from '../../src/rollup/balances.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

/** A row can hold one of them, not two. */
const LARGE = 9_100_000_000_000_000_000n;

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(() => database.drop());

/** As a program that knows no balances writes. */
async function writeForeign(user: string, costs: readonly bigint[], isAdopted = false) {
  await database.pool.query(
    'insert into kilocode_users (id, opening_microdollars_used) values ($1, $2)',
    [user, isAdopted ? null : 0],
  );
  await database.pool.query(
    `insert into microdollar_usage (id, kilo_user_id, cost)
    select gen_random_uuid(), $1, c from unnest($2::bigint[]) as c`,
    [user, costs],
  );
}

async function usedBy(user: string): Promise<string> {
  const { rows } = await database.pool.query(
    'select microdollars_used as used from kilocode_users where id = $1',
    [user],
  );
  return rows[0].used;
}

describe('balances of extreme payers', () => {
  it('reports drift past 2^53 exactly, and repairs it', async () => {
    await writeForeign('large', [LARGE]);
    const { drifts } = await verifyBalances({ url: database.url });
    expect(drifts).toMatchObject([
      { id: 'large', reportedMicrodollars: 0, trueMicrodollars: LARGE },
    ]);
    const repaired = await verifyBalances({ url: database.url, repair: true });
    expect(repaired).toMatchObject({ drifted: 1, repaired: 1 });
    expect(await usedBy('large')).toBe(String(LARGE));
  });

  it('leaves, and names, what no row can hold, and repairs the others', async () => {
    await writeForeign('a', [LARGE, LARGE]);
    await writeForeign('b', [5n]);
    const report = await verifyBalances({ url: database.url, repair: true });
    expect(report).toMatchObject({ drifted: 2, repaired: 1 });
    expect(report.drifts[0]).toMatchObject({ id: 'a', driftMicrodollars: -2n * LARGE });
    expect([await usedBy('a'), await usedBy('b')]).toEqual(['0', '5']);
  });

  it('derives the openings of the others when one cannot be', async () => {
    await writeForeign('a', [LARGE, LARGE], true);
    await writeForeign('b', [5n], true);
    const report = await verifyBalances({ url: database.url, repair: true });
    expect(report).toMatchObject({ opened: 1, unopened: 1 });
  });
});
