import type pg from 'pg';
import { checkInvariants } from '../../../test/support/checkInvariants.js';

/** For approaches that keep totals in the ledger's own tables: the ledger's own checker. */
export function ledgerDifferences(pool: pg.Pool): Promise<string[]> {
  return checkInvariants(pool);
}

/**
 * For approaches with tables of their own. `daily` yields (kilo_user_id, organization_id,
 * usage_date, total), `balances` (payer, total); both are compared with raw usage, both ways.
 */
export async function differencesFrom(
  pool: pg.Pool,
  totals: { daily: string; balances: string },
): Promise<string[]> {
  const daily = await pool.query<{ message: string }>(`
    select format('daily %s %s %s: reported %s, raw %s', kilo_user_id,
      coalesce(organization_id::text, '-'), usage_date, sum(reported), sum(raw)) as message
    from (
      select kilo_user_id, organization_id, usage_date, total as reported, 0::numeric as raw
      from (${totals.daily}) as reported
      union all
      select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date, 0, cost
      from microdollar_usage
    ) as sides
    group by kilo_user_id, organization_id, usage_date
    having sum(reported) <> sum(raw)`);
  const balances = await pool.query<{ message: string }>(`
    select format('balance %s: reported %s, raw %s', payer, sum(reported), sum(raw)) as message
    from (
      select payer, total as reported, 0::numeric as raw
      from (${totals.balances}) as reported
      union all
      select coalesce(organization_id::text, kilo_user_id), 0, cost
      from microdollar_usage
    ) as sides
    group by payer
    having sum(reported) <> sum(raw)`);
  return [...daily.rows, ...balances.rows].map((row) => row.message);
}
