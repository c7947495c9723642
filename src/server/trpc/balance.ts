import { z } from 'zod';
import { unknownUser } from '../../accounts/fields.js';
import { toJsonInteger } from '../../money.js';
import { checkOrganizationRead, resolveUser } from '../access.js';
import type { BalanceRow } from '../queries/currentBalance.sql.js';
import { readBalances } from '../userReads.js';
import { inputOf } from '../validation.js';
import { procedureFor } from './procedure.js';

const input = z.strictObject({ kiloUserId: z.string().optional() }).optional();

export const readCurrentBalance = procedureFor(
  'usage:read',
  "A user's balance and those of their organizations, in microdollars. Of the own user; " +
    'a service key names one.',
)
  .input(inputOf(input))
  .query(async ({ ctx, input: query }) => {
    const kiloUserId = resolveUser(ctx.principal, query?.kiloUserId);
    await checkOrganizationRead(ctx.ledger, ctx.principal, null);
    return toCurrentBalance(await readBalances(ctx.ledger, kiloUserId));
  });

/** @throws LedgerError `unknown_user` when there is no row of the user's own */
export function toCurrentBalance(rows: readonly BalanceRow[]) {
  const own = rows.find((row) => row.organization_id === null);
  if (own === undefined) throw unknownUser();
  return {
    ...toBalance(own),
    organizations: rows.flatMap((row) =>
      row.organization_id === null
        ? []
        : [
            {
              organization_id: row.organization_id,
              name: row.name ?? '',
              role: row.role ?? '',
              ...toBalance(row),
            },
          ],
    ),
  };
}

function toBalance(row: BalanceRow) {
  const used = BigInt(row.microdollars_used);
  const acquired = BigInt(row.total_microdollars_acquired);
  return {
    microdollars_used: toJsonInteger(used),
    total_microdollars_acquired: toJsonInteger(acquired),
    /** What was acquired and is not used; what is held is still in it, so that it does not flicker. */
    remaining_microdollars: toJsonInteger(acquired - used),
    held_microdollars: toJsonInteger(row.held_microdollars),
    next_credit_expiry_at: row.next_credit_expiry_at,
  };
}
