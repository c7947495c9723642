import type { Query } from '../../db/query.js';
import { LedgerError } from '../../errors.js';
import type { PayerScope } from '../../schema/unsettled.js';
import { type GrantsRow, readGrantsStatement } from './grants.sql.js';
import type { GrantsState } from './settlement.js';
import type { CreditEntry } from './waterfall.js';

/** A ledger's row with what it says. */
export interface DescribedEntry extends CreditEntry {
  description: string | null;
}

export interface ReadGrants extends GrantsState {
  entries: readonly DescribedEntry[];
}

/**
 * A payer's ledger of credits in one snapshot; null: there is no such payer.
 * @throws LedgerError `unavailable` in a cluster that the ledger does not know
 */
export async function readGrants(
  query: Query,
  scope: PayerScope,
  payerId: string,
): Promise<ReadGrants | null> {
  const state = await readGrantsAnywhere(query, scope, payerId);
  if (state === null || state.isKnownCluster) return state;
  throw new LedgerError('unavailable', 'the ledger does not know this cluster: run migrate');
}

/** The same, to be looked at only, also in a cluster that the ledger does not know. */
export async function readGrantsAnywhere(
  query: Query,
  scope: PayerScope,
  payerId: string,
): Promise<(ReadGrants & { isKnownCluster: boolean }) | null> {
  const [row] = await query<GrantsRow>(readGrantsStatement(scope, payerId));
  if (!row) return null;
  return {
    isKnownCluster: row.is_known_cluster,
    now: BigInt(row.now_micros),
    acquired: BigInt(row.acquired),
    used: BigInt(row.used),
    mark: { below: row.ended_below, except: row.running },
    entries: row.entries.map((entry) => ({
      id: entry.id,
      kind: entry.kind,
      amount: BigInt(entry.amount),
      grantId: entry.grant_id,
      expiresAt: toBigInt(entry.expires_micros),
      priority: entry.priority,
      createdAt: BigInt(entry.created_micros),
      used: toBigInt(entry.used),
      description: entry.description,
    })),
    expiries: row.expiries.map((expiry) => ({
      grantId: expiry.grant_id,
      expiresAt: BigInt(expiry.expires_micros),
      left: toBigInt(expiry.left),
      late: BigInt(expiry.late),
      lateBefore: BigInt(expiry.late_before),
      isClosed: expiry.is_closed,
      usedSince: BigInt(expiry.used_since),
      usedLate: BigInt(expiry.used_late),
      held: BigInt(expiry.held),
    })),
  };
}

const toBigInt = (text: string | null): bigint | null => (text === null ? null : BigInt(text));
