import type pg from 'pg';
import { withNextExpiries } from '../accounts/grants/nextExpiry.js';
import { microsOf } from '../instant.js';
import type { Ledger } from '../ledgerTypes.js';
import { askOfUser } from '../shards/askOfUser.js';
import { isSharded } from '../shards/parts.js';
import type { Principal } from './auth.js';
import { type AccountRow, accountStatement } from './queries/account.sql.js';
import { type BalanceRow, currentBalanceStatement } from './queries/currentBalance.sql.js';
import { type RecentRow, recentUsageStatement } from './queries/recentUsage.sql.js';
import { readRows } from './queries/rows.js';

/**
 * Reads of a user wherever they are known: their own account on their shard, what they do for organizations
 * on those of the organizations. Each part is exact in a snapshot of its own.
 * @throws LedgerError `unavailable` naming a shard that is away and may know the user
 */
async function readOfUser<T>(
  ledger: Ledger,
  kiloUserId: string,
  read: (part: Ledger) => Promise<T>,
): Promise<{ own: T; all: T[] }> {
  if (!isSharded(ledger)) {
    const own = await read(ledger);
    return { own, all: [own] };
  }
  const [own, all] = await Promise.all([
    ledger.ask({ kilo_user_id: kiloUserId }, read),
    askOfUser(ledger, kiloUserId, read),
  ]);
  return { own, all: [own, ...all] };
}

/** The user's own balance and those of their organizations. */
export async function readBalances(ledger: Ledger, kiloUserId: string): Promise<BalanceRow[]> {
  const { own, all } = await readOfUser(ledger, kiloUserId, async ({ readPool }) => {
    const rows = await readRows<BalanceRow>(readPool, currentBalanceStatement(kiloUserId));
    return await withExpiries(readPool, kiloUserId, rows);
  });
  return mergeBalances(own, all);
}

/** Which of the user's requests. */
export interface RecentQuery {
  limit: number;
  /** Not those for organizations that the user has left: they are theirs. */
  asMember: boolean;
}

/** As the asker may see them: of the own user as far as they are a member now, for others all. */
export const recentFor = (
  { kiloUserId, scopes }: Pick<Principal, 'kiloUserId' | 'scopes'>,
  limit: number,
): RecentQuery => ({ limit, asMember: kiloUserId !== null && !scopes.has('admin') });

/** The user's newest requests in every scope. */
export async function readRecentUsage(
  ledger: Ledger,
  kiloUserId: string,
  { limit, asMember }: RecentQuery,
): Promise<RecentRow[]> {
  const { all } = await readOfUser(ledger, kiloUserId, ({ readPool }) =>
    readRows<RecentRow>(readPool, recentUsageStatement(kiloUserId, limit, asMember)),
  );
  return mergeRecent(all, limit);
}

/** Both, of an ordinary ledger in one snapshot. */
export async function readAccountOf(
  ledger: Ledger,
  kiloUserId: string,
  { limit, asMember }: RecentQuery,
): Promise<{ balances: BalanceRow[]; recent: RecentRow[] }> {
  const { own, all } = await readOfUser(ledger, kiloUserId, async ({ readPool }) => {
    const statement = accountStatement(kiloUserId, limit, asMember);
    const [row] = await readRows<AccountRow>(readPool, statement);
    const balances = await withExpiries(readPool, kiloUserId, row?.balances ?? []);
    return { balances, recent: row?.recent ?? [] };
  });
  return {
    balances: mergeBalances(
      own.balances,
      all.map(({ balances }) => balances),
    ),
    recent: mergeRecent(
      all.map(({ recent }) => recent),
      limit,
    ),
  };
}

function withExpiries(pool: pg.Pool, kiloUserId: string, rows: readonly BalanceRow[]) {
  return withNextExpiries(pool, rows, ({ organization_id: id }) =>
    id === null ? { kilo_user_id: kiloUserId } : { organization_id: id },
  );
}

/** Of the user from their shard alone: on others they are known, and have nothing. */
function mergeBalances(own: readonly BalanceRow[], all: readonly BalanceRow[][]): BalanceRow[] {
  const organizations = all.flat().filter((row) => row.organization_id !== null);
  return [
    ...own.filter((row) => row.organization_id === null),
    ...new Map(organizations.map((row) => [row.organization_id, row])).values(),
  ];
}

/** Of a payer that moves at this moment two parts may have the same rows. */
function mergeRecent(all: readonly RecentRow[][], limit: number): RecentRow[] {
  if (all.length === 1) return all[0] ?? [];
  const rows = [...new Map(all.flat().map((row) => [row.id, row])).values()];
  const micros = new Map(rows.map((row) => [row, microsOf(row.created_micros)]));
  const newer = (a: RecentRow, b: RecentRow) => Number((micros.get(a) ?? 0) > (micros.get(b) ?? 0));
  return rows.sort((a, b) => newer(b, a) - newer(a, b)).slice(0, limit);
}
