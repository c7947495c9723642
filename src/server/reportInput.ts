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
  top: z.number().nullish(),
  metric: optional,
  compare: z.boolean().nullish(),
});

const searchInput = z.strictObject({
  ...reportInput.shape,
  by: optional,
  top: optional,
  compare: z.enum(['true', 'false', 'previous'], 'must be previous, true or false').nullish(),
  format: z.enum(['json', 'csv'], 'must be json or csv').nullish(),
});

/** Of a tRPC call. @throws LedgerError `invalid_request` */
export function readReportInput(value: unknown): UsageReportQuery {
  return withDays(parseInput(reportInput, value ?? {}));
}

/** Of a URL; `format` null = by the header. @throws LedgerError `invalid_request` */
export function readReportSearch(value: unknown): {
  query: UsageReportQuery;
  format: 'json' | 'csv' | null;
} {
  const { format, by, top, compare, ...rest } = parseInput(searchInput, value);
  const query = withDays({
    ...rest,
    by: by === undefined || by === null || by === '' ? [] : by.split(','),
    ...(top === undefined || top === null ? {} : { top: top === '' ? Number.NaN : Number(top) }),
    compare: compare === 'true' || compare === 'previous',
  });
  return { query, format: format ?? null };
}

const DEFAULT_DAYS = 30;

/** Without a range: the last 30 days, by the clock of UTC. */
function withDays(input: Partial<Record<keyof UsageReportQuery, unknown>>): UsageReportQuery {
  const until = (input.until ?? new Date().toISOString().slice(0, 10)) as string;
  const from = input.from ?? (isDay(until) ? addDays(until, 1 - DEFAULT_DAYS) : until);
  return { ...input, from, until } as UsageReportQuery;
}
