import { addCredit } from '../../src/accounts/credits.js';
import { GrantExpirer, type Withdrawals } from '../../src/accounts/grants/expirer.js';
import { listPayerCredits } from '../../src/accounts/listCredits.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { LedgerFixture } from './ledgerHarness.js';

type Payer = { kilo_user_id: string } | { organization_id: string };

const FAR = '2999-01-01T00:00:00Z';

/** A grant, in microdollars, that expires some day. @returns its id */
export async function addGrant(ledger: Ledger, payer: Payer, amount: number, priority = 0) {
  const usd = amount / 1e6;
  return (await addCredit(ledger.pool, { ...payer, usd, expires_at: FAR, priority })).id;
}

/** Moves the expiry of grants, which nobody else can: to a time that is over, they are due. */
export async function setExpiry(
  fixture: Pick<LedgerFixture, 'rows'>,
  grants: readonly string[],
  at: Date,
): Promise<void> {
  const values = [grants, at.toISOString()];
  await fixture.rows(
    'update credit_transactions set expires_at = $2 where id = any ($1::uuid[])',
    values,
  );
  await fixture.rows(
    'update credit_expiries set expires_at = $2, look_at = $2 where grant_id = any ($1::uuid[])',
    values,
  );
}

/** So many ms ago. */
export const ago = (ms: number): Date => new Date(Date.now() - ms);

export function expirerOf(ledger: Ledger, withdrawals: Withdrawals = ledger.budgetFolder) {
  return new GrantExpirer({
    pool: ledger.pool,
    named: true,
    withdrawals,
    onError: (error) => {
      throw error;
    },
  });
}

/** Grants of a payer, the oldest first: what is left, used and expired. */
export async function grantsOf(ledger: Ledger, payer: Payer) {
  const { rows } = await listPayerCredits(ledger.pool, payer);
  return rows.toReversed().flatMap(({ grant }) =>
    grant === null
      ? []
      : [
          {
            status: grant.status,
            left: Number(grant.left_microdollars),
            used: Number(grant.used_microdollars),
            expired: Number(grant.expired_microdollars),
          },
        ],
  );
}

export async function acquiredBy(fixture: LedgerFixture, user: string): Promise<number> {
  const [row] = await fixture.rows<{ acquired: string }>(
    'select total_microdollars_acquired as acquired from kilocode_users where id = $1',
    [user],
  );
  return Number(row?.acquired);
}
