import { z } from 'zod';
import { checkOrganizationRead, resolveUser } from '../access.js';
import { readAccountOf, recentFor } from '../userReads.js';
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
    await checkOrganizationRead(ctx.ledger, ctx.principal, null);
    const wanted = recentFor(ctx.principal, query?.limit ?? 25);
    const { balances, recent } = await readAccountOf(ctx.ledger, kiloUserId, wanted);
    return {
      kiloUserId,
      balance: toCurrentBalance(balances),
      recent: recent.map((each) => toJsonRequest(each)),
    };
  });
