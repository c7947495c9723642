import { z } from 'zod';
import { checkOrganizationRead, resolveUser } from '../access.js';
import { type AccountRow, accountStatement } from '../queries/account.sql.js';
import { readRows } from '../queries/rows.js';
import { inputOf } from '../validation.js';
import { toCurrentBalance } from './balance.js';
import { procedureFor } from './procedure.js';
import { toJsonRequest } from './usage.js';

const input = z
  .strictObject({
    limit: z.int().min(1).max(200).optional(),
    kiloUserId: z.string().optional(),
  })
  .optional();

export const readAccount = procedureFor(
  'usage:read',
  '`balance.current` and `usage.recent` from one statement and one snapshot.',
)
  .input(inputOf(input))
  .query(async ({ ctx, input: query }) => {
    const kiloUserId = resolveUser(ctx.principal, query?.kiloUserId);
    await checkOrganizationRead(ctx.ledger.pool, ctx.principal, null);
    const [row] = await readRows<AccountRow>(
      ctx.ledger.readPool,
      accountStatement(kiloUserId, query?.limit ?? 25),
    );
    return {
      kiloUserId,
      balance: await toCurrentBalance(ctx.ledger.readPool, kiloUserId, row?.balances ?? []),
      recent: (row?.recent ?? []).map((each) => toJsonRequest(each)),
    };
  });
