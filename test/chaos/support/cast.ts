import type pg from 'pg';
import { EXA_ALLOWANCE_MICRODOLLARS } from '../../faults/support/clientBook.js';

/** Whom every process of a run writes for. */
export const HOT = 'hot';
export const PEOPLE = [HOT, 'ann', 'bob', 'cyn', 'dan', 'eve'] as const;
/** Sums past 2^53 within minutes: events of 10^12 microdollars. */
export const WHALE = 'whale';
/** Soft-deleted while they are written for. */
export const LEAVING = ['leaving-1', 'leaving-2', 'leaving-3'] as const;
/** Programs that know no rollup write for these: drift until the backfill has run. */
export const FOREIGN = ['foreign-1', 'foreign-2'] as const;
/** Rows of 9.2 * 10^18: no counter row holds their sum, now or ever. */
export const UNFIT = 'foreign-unfit';
export const ORGANIZATIONS = [
  '11111111-1111-4111-8111-111111111111',
  '22222222-2222-4222-8222-222222222222',
] as const;

/** What the checkers must not find is filtered by this until the last repair. */
export const IS_FOREIGN = /user=foreign-/;
export const IS_UNFIT = new RegExp(`user=${UNFIT}\\b`);

export async function createCast(pool: pg.Pool): Promise<void> {
  const users = [...PEOPLE, WHALE, ...LEAVING, ...FOREIGN, UNFIT];
  await pool.query('insert into kilocode_users (id) select unnest($1::text[])', [users]);
  await pool.query('insert into organizations (id, name) select unnest($1::uuid[]), $2', [
    ORGANIZATIONS,
    'an organization',
  ]);
  await pool.query('update ledger_settings set exa_free_allowance_microdollars = $1', [
    EXA_ALLOWANCE_MICRODOLLARS,
  ]);
  await pool.query(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
    select gen_random_uuid(), $1, 9200000000000000000, now() from generate_series(1, 3)`,
    [UNFIT],
  );
}
