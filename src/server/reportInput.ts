import { z } from 'zod';
import { addDays, isDay } from '../days.js';
import type { UsageReportQuery } from '../ledgerTypes.js';
import { parseInput } from './validation.js';

const optional = z.string().nullish();

/** Fields and types; what a value may be is checked by the report. */
const reportInput = z.strictObject({
  from: optional,
  until: optional,
  zone: optional,
  grain: optional,
  by: z.array(z.string()).nullish(),
  kilo_user_id: optional,
  organization_id: optional,
  member: optional,
  api_key_id: optional,
  /** A user's usage in every scope: personal, and their part of each organization they are in. */
  all_scopes: z.boolean().nullish(),
  top: z.number().nullish(),
  metric: optional,
  compare: z.boolean().nullish(),
});

const searchInput = z.strictObject({
  ...reportInput.shape,
  by: optional,
  top: optional,
  all_scopes: z.enum(['true', 'false'], 'must be true or false').nullish(),
  compare: z.enum(['true', 'false', 'previous'], 'must be previous, true or false').nullish(),
  format: z.enum(['json', 'csv'], 'must be json or csv').nullish(),
});

export interface ReportRequest {
  query: UsageReportQuery;
  isAllScopes: boolean;
}

/** Input of a tRPC call. @throws LedgerError `invalid_request` */
export function readReportInput(value: unknown): z.output<typeof reportInput> {
  return parseInput(reportInput, value ?? {});
}

export function toReportRequest({
  all_scopes,
  ...query
}: z.output<typeof reportInput>): ReportRequest {
  return { query: withDays(query), isAllScopes: all_scopes ?? false };
}

/** Of a URL; `format` null = by the header. @throws LedgerError `invalid_request` */
export function readReportSearch(
  value: unknown,
): ReportRequest & { format: 'json' | 'csv' | null } {
  const { format, by, top, compare, all_scopes, ...rest } = parseInput(searchInput, value);
  const query = withDays({
    ...rest,
    by: by === undefined || by === null || by === '' ? [] : by.split(','),
    ...(top === undefined || top === null ? {} : { top: top === '' ? Number.NaN : Number(top) }),
    compare: compare === 'true' || compare === 'previous',
  });
  return { query, isAllScopes: all_scopes === 'true', format: format ?? null };
}

const DEFAULT_DAYS = 30;

/** Without a range: the last 30 days, by the clock of UTC. */
function withDays(input: Partial<Record<keyof UsageReportQuery, unknown>>): UsageReportQuery {
  const until = (input.until ?? new Date().toISOString().slice(0, 10)) as string;
  const from = input.from ?? (isDay(until) ? addDays(until, 1 - DEFAULT_DAYS) : until);
  return { ...input, from, until } as UsageReportQuery;
}
