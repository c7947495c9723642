import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Settler } from '../../src/counter/settler.js';
import { Sweep } from '../../src/counter/sweep.js';
import { type Query, queryOnPool } from '../../src/db/query.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * What a sweep notes as settled everywhere is what proofs and the archive build on: a payer that
 * could not be settled must not hide behind another that settled more than the sweep had seen.
 */
let fixture: LedgerFixture;

beforeEach(async () => {
  fixture = await createLedgerFixture();
});
afterEach(() => fixture.close());

const append = (user: string, cost: number, rows = 1) =>
  fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, position)
     select gen_random_uuid(), $1, $2, microdollar_position() from generate_series(1, $3)`,
    [user, cost, rows],
  );

/** A sweep; `between` runs after it has looked at users, and before it settles them. */
function sweepWith(between: () => Promise<unknown>): Sweep {
  const query = queryOnPool(fixture.database.pool, false);
  const stepped: Query = async <Row>(statement: Parameters<Query>[0]) => {
    const rows = await query<Row>(statement);
    if (statement.name === 'microdollar_sweep_user') await between();
    return rows;
  };
  return new Sweep(stepped, new Settler({ query }));
}

const isNotedPastUnsettled = async () =>
  (
    await fixture.rows<{ isBelow: boolean }>(
      `select min(m.position) < (select settled_everywhere_below from ledger_settings) as "isBelow"
       from microdollar_usage as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where m.position >= u.settled_below`,
    )
  )[0]?.isBelow;

describe('a payer whose settle fails, beside one that is written to meanwhile', () => {
  it.each([
    ['usage', 1],
    ['more payers than one statement takes', 150],
  ])('stays above what is noted, and is told as left: %s', async (_, busyPayers) => {
    // A host's own constraint: nothing of the ledger's can move this row.
    await fixture.rows(
      `alter table kilocode_users add check (id <> 'held' or microdollars_used < 5)`,
    );
    await fixture.addUser('held');
    const busy: string[] = [];
    for (let place = 0; place < busyPayers; place++) busy.push(await fixture.addUser());
    for (const user of ['held', ...busy]) await append(user, 10);
    // Counter rows are there: the first statement settles.
    await fixture.rows(
      `select microdollar_open_daily(id, null, (now() at time zone 'UTC')::date) from kilocode_users`,
    );
    const sweep = sweepWith(async () => {
      for (const user of busy) await append(user, 1, 3);
    });
    const { remaining } = await sweep.pass();
    expect(await isNotedPastUnsettled()).toBe(false);
    expect(remaining).toBeGreaterThan(0);
    expect((await sweepWith(async () => {}).foldAll()).remaining).toBeGreaterThan(0);
    await fixture.rows('alter table kilocode_users drop constraint kilocode_users_check');
    await fixture.expectExact();
  });
});
