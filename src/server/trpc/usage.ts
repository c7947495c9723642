import { z } from 'zod';
import { toJsonInteger, toSafeInteger } from '../../money.js';
import { checkOrganizationRead, resolveUser } from '../access.js';
import type { RecentRow } from '../queries/recentUsage.sql.js';
import { readRows } from '../queries/rows.js';
import { type ByModelRow, usageByModelStatement } from '../queries/usageByModel.sql.js';
import { readRecentUsage, recentFor } from '../userReads.js';
import { checkDayRange, day, inputOf, uuid } from '../validation.js';
import { setAnswerSource } from './answerSource.js';
import { procedureFor } from './procedure.js';

const MAX_RECENT = 200;

const dailyInput = z.strictObject({
  from: day,
  /** Inclusive. */
  until: day,
  /** Null or absent: personal. */
  organizationId: uuid.nullish(),
  kiloUserId: z.string().optional(),
});

export const readDaily = procedureFor(
  'usage:read',
  'Daily totals of one scope, exact; days without usage are absent. Of the own user, ' +
    'personal or in an organization of theirs; a service key names one.',
)
  .input(inputOf(dailyInput))
  .query(async ({ ctx, input }) => {
    checkDayRange(input.from, input.until);
    const kiloUserId = resolveUser(ctx.principal, input.kiloUserId);
    const organizationId = input.organizationId ?? null;
    await checkOrganizationRead(ctx.ledger, ctx.principal, organizationId);
    const { days, source } = await ctx.ledger.getDailyUsageWithSource({
      kilo_user_id: kiloUserId,
      organization_id: organizationId,
      from: input.from,
      until: input.until,
    });
    setAnswerSource(ctx, source);
    return days;
  });

const recentInput = z
  .strictObject({
    limit: z.int().min(1).max(MAX_RECENT).optional(),
    kiloUserId: z.string().optional(),
  })
  .optional();

export const readRecent = procedureFor(
  'usage:read',
  "The own user's last requests, personal and of organizations they are in, newest first; a " +
    'service key names one, and has all of theirs. `unpriced`: waits for a price, so that its ' +
    '`cost` is 0.',
)
  .input(inputOf(recentInput))
  .query(async ({ ctx, input }) => {
    const kiloUserId = resolveUser(ctx.principal, input?.kiloUserId);
    await checkOrganizationRead(ctx.ledger, ctx.principal, null);
    const query = recentFor(ctx.principal, input?.limit ?? 50);
    const rows = await readRecentUsage(ctx.ledger, kiloUserId, query);
    return rows.map((row) => toJsonRequest(row));
  });

type Counts = Pick<
  RecentRow,
  'cost' | 'input_tokens' | 'output_tokens' | 'cache_write_tokens' | 'cache_hit_tokens'
>;

/** Of an adopted row that has none: 0, as in its sums. */
export const countOf = (value: string | null) => toJsonInteger(value ?? 0);

const countsOf = (row: Counts) => ({
  cost: toJsonInteger(row.cost),
  input_tokens: countOf(row.input_tokens),
  output_tokens: countOf(row.output_tokens),
  cache_write_tokens: countOf(row.cache_write_tokens),
  cache_hit_tokens: countOf(row.cache_hit_tokens),
});

/** A usage row as JSON has it. */
export function toJsonRequest<
  Row extends Counts & { has_error: boolean | null; created_micros?: string },
>({ created_micros, ...row }: Row) {
  return { ...row, ...countsOf(row), has_error: row.has_error ?? false };
}

const byModelInput = z.strictObject({
  date: day,
  /** Null or absent: personal. */
  organizationId: uuid.nullish(),
  kiloUserId: z.string().optional(),
});

export const readByModel = procedureFor(
  'usage:read',
  'A UTC day by model, the costliest first; for whom `usage.daily` is.',
)
  .input(inputOf(byModelInput))
  .query(async ({ ctx, input }) => {
    const kiloUserId = resolveUser(ctx.principal, input.kiloUserId);
    const organizationId = input.organizationId ?? null;
    await checkOrganizationRead(ctx.ledger, ctx.principal, organizationId);
    const payer = { kilo_user_id: kiloUserId, organization_id: organizationId };
    const statement = usageByModelStatement(kiloUserId, input.date, organizationId);
    const rows = await ctx.ledger.ask(payer, ({ readPool }) =>
      readRows<ByModelRow>(readPool, statement),
    );
    return rows.map((row) => ({
      model: row.model,
      requests: toSafeInteger(row.requests),
      ...countsOf(row),
    }));
  });
