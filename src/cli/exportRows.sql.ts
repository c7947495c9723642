import { instantText } from '../db/instant.sql.js';
import type { Statement } from '../db/statement.js';

export interface ExportFilter {
  /** UTC days, both inclusive. */
  from: string;
  until: string;
  kiloUserId: string | null;
  organizationId: string | null;
}

export interface ExportColumn {
  name: string;
  /** Text is guarded against formulas in spreadsheets; ids, times and numbers are not text. */
  isText?: true;
  /** In CSV an empty text is an empty cell, as null is: no import reads it back. */
  isNote?: true;
  isNumber?: true;
  isBoolean?: true;
  isJson?: true;
}

/** What is exported, in order; the sum of `costColumn` is the total. */
export interface ExportShape {
  columns: readonly ExportColumn[];
  costColumn: string;
  /** In a JSON document. */
  listName: string;
}

export const USAGE_SHAPE: ExportShape = {
  columns: [
    { name: 'id' },
    { name: 'created_at' },
    { name: 'kilo_user_id', isText: true },
    { name: 'organization_id' },
    { name: 'provider', isText: true },
    { name: 'model', isText: true },
    { name: 'requested_model', isText: true },
    { name: 'inference_provider', isText: true },
    { name: 'project_id', isText: true },
    { name: 'api_key_id' },
    { name: 'end_user', isText: true },
    { name: 'session_id', isText: true },
    { name: 'tags', isJson: true },
    { name: 'cost', isNumber: true },
    { name: 'input_tokens', isNumber: true },
    { name: 'output_tokens', isNumber: true },
    { name: 'cache_write_tokens', isNumber: true },
    { name: 'cache_hit_tokens', isNumber: true },
    { name: 'cache_discount', isNumber: true },
    { name: 'has_error', isBoolean: true },
  ],
  costColumn: 'cost',
  listName: 'usage',
};

/** The ledger of credits: what was granted, taken back, and has expired. */
export const CREDIT_SHAPE: ExportShape = {
  columns: [
    { name: 'id' },
    { name: 'created_at' },
    { name: 'kilo_user_id', isText: true },
    { name: 'organization_id' },
    { name: 'kind' },
    { name: 'amount_microdollars', isNumber: true },
    { name: 'expires_at' },
    { name: 'priority', isNumber: true },
    { name: 'grant_id' },
    { name: 'description', isText: true, isNote: true },
  ],
  costColumn: 'amount_microdollars',
  listName: 'credits',
};

export const DAILY_SHAPE: ExportShape = {
  columns: [
    { name: 'usage_date' },
    { name: 'kilo_user_id', isText: true },
    { name: 'organization_id' },
    { name: 'total_cost_microdollars', isNumber: true },
  ],
  costColumn: 'total_cost_microdollars',
  listName: 'usage',
};

/** Usage rows by time; the range is on the column itself, so that its index serves. */
export function exportUsageStatement(filter: ExportFilter): Statement {
  return {
    name: 'export_usage',
    text: `
      select m.id,
        ${instantText('m.created_at')} as created_at,
        m.kilo_user_id, m.organization_id, provider, model, requested_model, inference_provider,
        project_id, api_key_id, d.end_user, d.session_id, to_json(d.tags)::text as tags,
        cost, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens,
        cache_discount, has_error
      from microdollar_usage as m
      left join microdollar_usage_metadata as d on d.id = m.id
      where m.created_at >= $1::date::timestamp at time zone 'UTC'
        and m.created_at < ($2::date + 1)::timestamp at time zone 'UTC'
        ${whose(filter, 'm')}
      order by m.created_at, m.id`,
    values: filterValues(filter),
  };
}

/** Rows of the ledger of credits, in their order. */
export function exportCreditsStatement(filter: ExportFilter): Statement {
  return {
    name: 'export_credits',
    text: `
      select c.id, ${instantText('c.created_at')} as created_at, c.kilo_user_id, c.organization_id,
        c.kind, c.amount_microdollars, ${instantText('c.expires_at')} as expires_at, c.priority,
        c.grant_id, c.description
      from credit_transactions as c
      where c.created_at >= $1::date::timestamp at time zone 'UTC'
        and c.created_at < ($2::date + 1)::timestamp at time zone 'UTC'
        ${whose(filter, 'c')}
      order by c.sequence`,
    values: filterValues(filter),
  };
}

/** Reported daily totals (I2). */
export function exportDailyStatement(filter: ExportFilter): Statement {
  return {
    name: 'export_daily',
    text: `
      select usage_date::text, kilo_user_id, organization_id, total_cost_microdollars
      from microdollar_usage_daily_exact as d
      where d.usage_date between $1::date and $2::date
        ${whose(filter, 'd')}
      order by d.usage_date, d.kilo_user_id, d.organization_id nulls first`,
    values: filterValues(filter),
  };
}

/** The conditions on rows of this alias; `filterValues` has their parameters. */
export function whose({ kiloUserId, organizationId }: ExportFilter, alias: string): string {
  const ofUser = kiloUserId === null ? '' : `and ${alias}.kilo_user_id = $3::text`;
  if (organizationId === null) return ofUser;
  const parameter = kiloUserId === null ? '$3' : '$4';
  return `${ofUser} and ${alias}.organization_id = ${parameter}::uuid`;
}

export function filterValues(filter: ExportFilter): string[] {
  const { from, until, kiloUserId, organizationId } = filter;
  return [from, until, kiloUserId, organizationId].filter((value) => value !== null);
}
