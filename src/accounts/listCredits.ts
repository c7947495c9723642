import type pg from 'pg';
import { queryOnPool } from '../db/query.js';
import { readUuid } from '../ids.js';
import { toExactInteger, toSafeInteger } from '../money.js';
import { formatMicros } from '../record/instants.sql.js';
import type { CreditKind } from '../schema/credits.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../schema/unsettled.js';
import { invalidField, readText, unknownOrganization, unknownUser } from './fields.js';
import { type ReadGrants, readGrants } from './grants/readGrants.js';
import { settleExpiries } from './grants/settlement.js';
import type { Lot } from './grants/waterfall.js';
import { type Listed, MAX_LISTED, page } from './listAccounts.js';
import { runStatement } from './runStatement.js';

/** Microdollars, exact whatever its size: a bigint beyond 2^53. */
type Amount = number | bigint;

/** `expiring`: its time is over, and some of it is held, or has not left the balance yet. */
export type GrantStatus = 'active' | 'used' | 'expiring' | 'expired';

/** A row of the ledger of credits. */
export interface ListedCredit {
  id: string;
  /** `expiry`, `expiry_correction`: of the grant `grant_id`; negative where it leaves the balance. */
  kind: CreditKind;
  grant_id: string | null;
  kilo_user_id: string | null;
  organization_id: string | null;
  amount_microdollars: Amount;
  description: string | null;
  /** ISO 8601; null: never. */
  expires_at: string | null;
  priority: number;
  /** ISO 8601. */
  created_at: string;
}

/** What became of a grant: amount = left + used + expired, in the snapshot of the list. */
export interface GrantUse {
  status: GrantStatus;
  /** What is left of it; of one that expired, what is still held. */
  left_microdollars: Amount;
  /** Spent, taken back, or a debt that it paid. */
  used_microdollars: Amount;
  /** Left the balance unused. */
  expired_microdollars: Amount;
}

/** Of a payer; `grant` of what was granted, null of what was taken back, and of expiries. */
export interface PayerCredit extends ListedCredit {
  grant: GrantUse | null;
}

export interface PayerCredits extends Listed<PayerCredit> {
  /** When the next grant that has something left expires; null: none does. */
  next_expiry_at: string | null;
}

interface StoredRow {
  id: string;
  kind: CreditKind;
  grant_id: string | null;
  kilo_user_id: string | null;
  organization_id: string | null;
  amount_microdollars: string;
  description: string | null;
  expires_micros: string | null;
  /** As text from an adopted table where it is wider. */
  priority: number | string;
  created_micros: string;
}

/** Newest first, of everybody: rows as they are stored. */
export async function listCredits(pool: pg.Pool): Promise<Listed<ListedCredit>> {
  const rows = await runStatement<StoredRow>(
    pool,
    `/* accounts.listCredits */
    select c.id, c.kind, c.grant_id, c.kilo_user_id, c.organization_id,
      c.amount_microdollars::text, c.description, c.priority,
      (extract(epoch from c.expires_at) * 1000000)::bigint::text as expires_micros,
      (extract(epoch from c.created_at) * 1000000)::bigint::text as created_micros
    from credit_transactions as c
    order by c.created_at desc, c.sequence desc
    limit $1`,
    [MAX_LISTED + 1],
  );
  return page(rows, ({ expires_micros, created_micros, ...row }) => ({
    ...row,
    amount_microdollars: toExactInteger(row.amount_microdollars),
    priority: toSafeInteger(row.priority),
    expires_at: expires_micros === null ? null : formatMicros(expires_micros),
    created_at: formatMicros(created_micros),
  }));
}

/**
 * Newest first, of one payer, with what is left of each grant, exact in one snapshot.
 * @throws LedgerError `invalid_request`, `unknown_user`, `unknown_organization`
 */
export async function listPayerCredits(
  pool: pg.Pool,
  payer: { kilo_user_id?: string | null | undefined; organization_id?: string | null | undefined },
): Promise<PayerCredits> {
  const userId = payer.kilo_user_id ?? null;
  const organizationId = payer.organization_id ?? null;
  if ((userId === null) === (organizationId === null)) {
    throw invalidField('kilo_user_id', 'or organization_id: name exactly one of the two');
  }
  const query = queryOnPool(pool, false);
  const state =
    organizationId === null
      ? await readGrants(query, USER_SCOPE, readText('kilo_user_id', userId ?? ''))
      : await readGrants(query, ORGANIZATION_SCOPE, readUuid('organization_id', organizationId));
  if (state === null) throw organizationId === null ? unknownUser() : unknownOrganization();
  const uses = usesOf(state);
  const rows = state.entries.toReversed().map((entry) => ({
    id: entry.id,
    kind: entry.kind,
    grant_id: entry.grantId,
    kilo_user_id: userId,
    organization_id: organizationId?.toLowerCase() ?? null,
    amount_microdollars: toExactInteger(entry.amount),
    description: entry.description,
    expires_at: entry.expiresAt === null ? null : formatMicros(String(entry.expiresAt)),
    priority: entry.priority,
    created_at: formatMicros(String(entry.createdAt)),
    grant: uses.get(entry.id) ?? null,
  }));
  const next = rows
    .flatMap(({ grant, expires_at: at }) => (grant?.status === 'active' && at !== null ? [at] : []))
    .sort()[0];
  return { ...page(rows, (row) => row), next_expiry_at: next ?? null };
}

/** As the ledger stands: an expiry that is due, and not written yet, is in what is left. */
function usesOf(state: ReadGrants): Map<string, GrantUse> {
  const { steps, waterfall } = settleExpiries(state, null);
  const step = new Map(steps.map((each) => [each.grantId, each]));
  const expiry = new Map(state.expiries.map((each) => [each.grantId, each]));
  const expired = new Map<string, bigint>();
  for (const { grantId, amount } of state.entries) {
    if (grantId !== null) expired.set(grantId, (expired.get(grantId) ?? 0n) - amount);
  }
  return new Map(
    waterfall.lots.map((lot) => {
      const { id, amount } = lot.entry;
      const late = step.get(id)?.late ?? expiry.get(id)?.late ?? 0n;
      const gone = expired.get(id) ?? 0n;
      const left = lot.left - late - gone;
      return [
        id,
        {
          status: statusOf(lot, left),
          left_microdollars: toExactInteger(left),
          used_microdollars: toExactInteger(amount - left - gone),
          expired_microdollars: toExactInteger(gone),
        },
      ];
    }),
  );
}

function statusOf({ hasExpired }: Lot, left: bigint): GrantStatus {
  if (left > 0n) return hasExpired ? 'expiring' : 'active';
  return hasExpired ? 'expired' : 'used';
}
