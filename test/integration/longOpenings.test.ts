import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { queryOnPool } from '../../src/db/query.js';
import { isDatabaseAway, toLedgerError } from '../../src/db/sqlstate.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { openPool } from '../support/openPool.js';
import { addPayer, expectIdentity, newHold } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  // To open a window of this payer takes as long as there is a row: so does one with much usage.
  await fixture.rows('create table long_openings (payer_id text)');
  await fixture.rows(`create function open_for_long() returns trigger language plpgsql as $$
    begin
      while exists (
        select from long_openings as l join budgets as b using (payer_id) where b.id = new.budget_id
      ) loop
        perform pg_sleep(0.01);
      end loop;
      return new;
    end $$`);
  await fixture.rows(`create trigger open_for_long before insert on budget_windows
    for each row execute function open_for_long()`);
});

afterAll(() => fixture.close());

it('payers whose windows take long to open leave others near a limit a connection', async () => {
  const near = await addPayer(fixture, 100);
  expect(await ledger.hold(newHold(near, 100))).toMatchObject({ status: 'granted' });
  const large = [await addPayer(fixture, 100), await addPayer(fixture, 100)];
  await fixture.rows('insert into long_openings select unnest($1::text[])', [large]);
  const opening = large.map((user) => ledger.hold(newHold(user, 10)));
  for (const hold of opening) hold.catch(() => {});
  await vi.waitFor(async () => {
    const begun = await fixture.rows(
      'select from rollup_marks where payer_id = any ($1) and settled_below > 0',
      [large],
    );
    const opens = await fixture.rows(
      `select from pg_stat_activity where datname = current_database() and state = 'active'
         and pid <> pg_backend_pid() and query like '%microdollar.openWindows%'`,
    );
    expect([begun.length, opens.length > 0]).toEqual([2, true]);
  });

  // Less than is asked for: refused only by a fold.
  expect(await ledger.hold(newHold(near, 1))).toMatchObject({ status: 'refused' });

  await fixture.rows('delete from long_openings');
  for (const hold of opening) expect(await hold).toMatchObject({ status: 'granted' });
  await expectIdentity(fixture);
});

it('a pool of which all is in use is no lost database', async () => {
  const pool = openPool({
    connectionString: fixture.database.url,
    max: 1,
    connectionTimeoutMillis: 50,
  });
  const taken = await pool.connect();
  const failure = await queryOnPool(
    pool,
    false,
  )({ name: 'x', text: 'select', values: [] }).catch((error: unknown) => error);
  taken.release();
  await pool.end();
  expect(isDatabaseAway(failure)).toBe(false);
  expect(isDatabaseAway(toLedgerError(failure))).toBe(false);
  expect(toLedgerError(failure)).toMatchObject({
    code: 'unavailable',
    message: 'every connection of this process for it is in use; try again',
  });
});
