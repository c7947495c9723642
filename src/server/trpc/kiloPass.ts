import { z } from 'zod';
import { checkOrganizationRead, resolveUser } from '../access.js';
import { inputOf, instant } from '../validation.js';
import { setAnswerSource } from './answerSource.js';
import { procedureFor } from './procedure.js';

const input = z
  .strictObject({
    asOf: instant.optional(),
    /** Service and admin keys only. */
    kiloUserId: z.string().optional(),
  })
  .optional();

export const readAverageMonthlyUsage = procedureFor(
  'usage:read',
  'Average of the last three months in USD, personal usage of the own user; a service ' +
    'key names one. `x-microdollar-source` says which source answered.',
)
  .input(inputOf(input))
  .query(async ({ ctx, input: query }) => {
    const kiloUserId = resolveUser(ctx.principal, query?.kiloUserId);
    await checkOrganizationRead(ctx.ledger, ctx.principal, null);
    const { averageMonthlyUsageUsd, source } = await ctx.ledger.getAverageMonthlyUsageLast3Months({
      kilo_user_id: kiloUserId,
      ...(query?.asOf === undefined ? {} : { asOf: query.asOf }),
    });
    setAnswerSource(ctx, source);
    return { averageMonthlyUsageUsd };
  });
