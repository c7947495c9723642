import type pg from 'pg';
import { queryOnPool } from '../../db/query.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../schema/unsettled.js';
import { type ReadGrants, readGrantsAnywhere } from './readGrants.js';
import { settleExpiries } from './settlement.js';
import type { Waterfall } from './waterfall.js';

/** Payers whose ledgers are read at once. */
const AT_ONCE = 4;

/** A balance, with the soonest expiry of a grant of which something may be left. */
export interface ExpiringBalance {
  microdollars_used: string;
  total_microdollars_acquired: string;
  next_credit_expiry_at: string | Date | null;
}

/** When the next grant that has something left expires, microseconds; null: none does. */
function nextExpiryIn({ lots }: Waterfall): bigint | null {
  const next = lots.find(
    ({ entry, left, hasExpired }) => left > 0n && !hasExpired && entry.expiresAt !== null,
  );
  return next?.entry.expiresAt ?? null;
}

/**
 * Takes the expiries of grants of which nothing is left for no expiries. Which grant was used depends on
 * the order of all that happened, so where some expires the payer's ledger is read; it is not where
 * nothing is left at all.
 */
export async function withNextExpiries<Row extends ExpiringBalance>(
  pool: pg.Pool,
  rows: readonly Row[],
  payerOf: (row: Row) => { kilo_user_id: string } | { organization_id: string },
): Promise<Row[]> {
  const query = queryOnPool(pool, false);
  const read = (row: Row): Promise<ReadGrants | null> => {
    const payer = payerOf(row);
    return 'organization_id' in payer
      ? readGrantsAnywhere(query, ORGANIZATION_SCOPE, payer.organization_id)
      : readGrantsAnywhere(query, USER_SCOPE, payer.kilo_user_id);
  };
  const withNext = async (row: Row): Promise<Row> => {
    if (row.next_credit_expiry_at === null) return row;
    const left = BigInt(row.total_microdollars_acquired) - BigInt(row.microdollars_used);
    const state = left > 0n ? await read(row) : null;
    const next = state && nextExpiryIn(settleExpiries(state, null).waterfall);
    return { ...row, next_credit_expiry_at: next === null ? null : toMilliseconds(next) };
  };
  const result: Row[] = [];
  for (let at = 0; at < rows.length; at += AT_ONCE) {
    result.push(...(await Promise.all(rows.slice(at, at + AT_ONCE).map(withNext))));
  }
  return result;
}

const toMilliseconds = (micros: bigint): string => new Date(Number(micros / 1000n)).toISOString();
