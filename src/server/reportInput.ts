import { z } from 'zod';
import { addDays, isDay, todayIn } from '../days.js';
import type { UsageReportQuery } from '../ledgerTypes.js';
import { GRAINS, GROUPS, MAX_TOP, readZone, TOP_METRICS } from '../report/usage/query.js';
import { optionalText, parseInput } from './validation.js';

const optionalDay = optionalText.meta({ format: 'date' });

/** Fields and types; what a value may be is checked by the report. */
export const reportInput = z.strictObject({
  from: optionalDay.describe('A day of the zone, inclusive. Default: 29 days before `until`.'),
  until: optionalDay.describe('A day of the zone, inclusive. Default: today in the zone.'),
  zone: optionalText.describe('IANA name, like Europe/Berlin. Default UTC.'),
  grain: optionalText.meta({
    enum: [...GRAINS, null],
    description: 'Default `day`. Weeks begin on Monday.',
  }),
  by: z
    .array(z.string().meta({ enum: Object.keys(GROUPS) }))
    .nullish()
    .meta({ maxItems: 2, description: 'Dimensions, up to two.' }),
  and_by: optionalText.meta({
    enum: [...Object.keys(GROUPS), null],
    description:
      'With one dimension in `by`: also the largest pairs of it and this, over the whole range, ' +
      'of the same snapshot. Not in CSV, which has the rows of `by`.',
  }),
  kilo_user_id: optionalText.describe('Personal usage of this user. Default: the user of the key.'),
  organization_id: optionalText.meta({
    format: 'uuid',
    description: "Instead: an organization's usage.",
  }),
  member: optionalText.describe("Of an organization: this user's part alone."),
  api_key_id: optionalText.meta({ format: 'uuid', description: 'What this key paid for alone.' }),
  all_scopes: z
    .boolean()
    .nullish()
    .describe(
      "A user's usage in every scope: personal, and their part of each organization they are in.",
    ),
  top: z.number().nullish().meta({
    minimum: 1,
    maximum: MAX_TOP,
    description:
      'Groups that are told apart, the largest by `metric`; the rest is `other`. Default 10.',
  }),
  metric: optionalText.meta({ enum: [...TOP_METRICS, null], description: 'Default `cost`.' }),
  compare: z.boolean().nullish().describe('Sums also as many days before `from`.'),
});

export const reportSearch = z.strictObject({
  ...reportInput.shape,
  by: optionalText.describe(
    'Dimensions, up to two, with a comma between: model, provider, key, project, member. Rows have them as ' +
      '`model`, `provider`, `api_key_id`, `project_id`, `kilo_user_id`; null: the request named none.',
  ),
  top: optionalText.describe(
    'Groups that are told apart, 1 to 50, the largest by `metric`; the rest is one row, `other`. Default 10.',
  ),
  all_scopes: z
    .enum(['true', 'false'], 'must be true or false')
    .nullish()
    .describe("`true`: a user's usage in every scope."),
  compare: z
    .enum(['true', 'false', 'previous'], 'must be previous, true or false')
    .nullish()
    .describe('Sums also as many days before `from`.'),
  format: z
    .enum(['json', 'csv'], 'must be json or csv')
    .nullish()
    .describe('Before the header `Accept`.'),
});

export interface ReportRequest {
  query: UsageReportQuery;
  isAllScopes: boolean;
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
  const { format, by, top, compare, all_scopes, ...rest } = parseInput(reportSearch, value);
  const query = withDays({
    ...rest,
    by: by === undefined || by === null || by === '' ? [] : by.split(','),
    ...(top === undefined || top === null ? {} : { top: top === '' ? Number.NaN : Number(top) }),
    compare: compare === 'true' || compare === 'previous',
  });
  return { query, isAllScopes: all_scopes === 'true', format: format ?? null };
}

const DEFAULT_DAYS = 30;

/**
 * Without a range: the last 30 days by the clock of the zone, so that its today is never cut off.
 * @throws LedgerError `invalid_request` where the zone is none
 */
function withDays(input: Partial<Record<keyof UsageReportQuery, unknown>>): UsageReportQuery {
  const until = (input.until ?? todayIn(readZone((input.zone ?? 'UTC') as string))) as string;
  const from = input.from ?? (isDay(until) ? addDays(until, 1 - DEFAULT_DAYS) : until);
  return { ...input, from, until } as UsageReportQuery;
}
