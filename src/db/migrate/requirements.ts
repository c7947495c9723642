import { LOOKUP_NAMES } from '../../schema/lookupNames.js';

/** What adopting (docs/adr/0005-adopt-online.md) demands and tolerates beyond the plain diff. */

/** Tables that a usage write inserts into, with the columns the ledger knows and no others. */
export const WRITTEN_TABLES: ReadonlySet<string> = new Set([
  'microdollar_usage',
  'microdollar_usage_metadata',
  'microdollar_usage_daily',
  'exa_usage_log',
  'exa_monthly_usage',
  ...LOOKUP_NAMES,
]);

/** No foreign key may lead from these to a row that others lock (I4, R10). */
const REFERENCING: ReadonlySet<string> = new Set([
  'microdollar_usage',
  'microdollar_usage_metadata',
  'microdollar_usage_daily',
  'exa_usage_log',
  'exa_monthly_usage',
]);
const LOCKED_BY_OTHERS: ReadonlySet<string> = new Set([
  'kilocode_users',
  'organizations',
  ...LOOKUP_NAMES,
]);

/** Whether a usage write would wait, through this foreign key, for a lock on the parent row. */
export function makesWritesWait(table: string, referencedTable: string): boolean {
  return REFERENCING.has(table) && LOCKED_BY_OTHERS.has(referencedTable);
}

/** `table.column` */
type ColumnName = `${string}.${string}`;

/** Missing, these cannot be made up for rows that exist, though their type would allow it. */
const NOT_TO_BE_INVENTED: ReadonlySet<ColumnName> = new Set<ColumnName>([
  'microdollar_usage.created_at',
  'microdollar_usage_daily.organization_id',
  'exa_usage_log.created_at',
  'exa_monthly_usage.organization_id',
]);

/** Missing, these are added without NOT NULL: rows that exist have no value. */
const NULL_IN_OLD_ROWS: ReadonlySet<ColumnName> = new Set<ColumnName>([
  'microdollar_usage_metadata.kilo_user_id',
  'microdollar_usage_metadata.created_at',
]);

/**
 * Null in one of these would keep a row or an amount out of totals, or what lists an account from reading it:
 * NOT NULL is proven, then set.
 */
const NEVER_NULL: ReadonlySet<ColumnName> = new Set<ColumnName>([
  'microdollar_usage.kilo_user_id',
  'microdollar_usage.cost',
  'microdollar_usage.created_at',
  'microdollar_usage_daily.kilo_user_id',
  'microdollar_usage_daily.usage_date',
  'microdollar_usage_daily.total_cost_microdollars',
  'microdollar_usage_daily.archived_cost_microdollars',
  ...(['kilocode_users', 'organizations'] as const).flatMap((table) => [
    `${table}.microdollars_used` as const,
    `${table}.total_microdollars_acquired` as const,
    `${table}.is_elsewhere` as const,
    `${table}.created_at` as const,
  ]),
  'organization_memberships.role',
  'organization_memberships.created_at',
  'api_keys.key_hash',
  'api_keys.key_prefix',
  'api_keys.scopes',
  'api_keys.created_at',
  'credit_transactions.amount_microdollars',
  'credit_transactions.kind',
  'credit_transactions.created_at',
  'credit_transactions.priority',
  'exa_usage_log.kilo_user_id',
  'exa_usage_log.cost',
  'exa_usage_log.created_at',
  'exa_monthly_usage.kilo_user_id',
  'exa_monthly_usage.month',
  'exa_monthly_usage.total_cost_microdollars',
  'exa_monthly_usage.total_charged_microdollars',
  'exa_monthly_usage.request_count',
  'exa_monthly_usage.free_allowance_microdollars',
]);

/** Of accounts: an infinite time has no form in which a list could show it, and no day. */
const FINITE: ReadonlySet<ColumnName> = new Set<ColumnName>([
  'kilocode_users.created_at',
  'kilocode_users.deleted_at',
  'organizations.created_at',
  'organization_memberships.created_at',
  'api_keys.created_at',
  'api_keys.last_used_at',
  'api_keys.revoked_at',
  'credit_transactions.created_at',
  'credit_transactions.expires_at',
]);

export const isToBeFinite = (table: string, column: string): boolean =>
  FINITE.has(`${table}.${column}`);
export const isNotToBeInvented = (table: string, column: string): boolean =>
  NOT_TO_BE_INVENTED.has(`${table}.${column}`);
export const isNullInOldRows = (table: string, column: string): boolean =>
  NULL_IN_OLD_ROWS.has(`${table}.${column}`);
export const isNeverNull = (table: string, column: string): boolean =>
  NEVER_NULL.has(`${table}.${column}`);

/**
 * Columns whose every value the ledger gives a meaning: found before it ever ran, with another value
 * than the one they are added with, they are another program's.
 */
const OWN_VALUES: ReadonlyMap<ColumnName, string> = new Map<ColumnName, string>([
  ...(['microdollar_usage', 'exa_usage_log'] as const).map(
    (table) => [`${table}.position`, 'null'] as const,
  ),
  ...(['kilocode_users', 'organizations'] as const).flatMap((table) => [
    [`${table}.settled_below`, '0'] as const,
    [`${table}.settled_except`, `'{}'`] as const,
    [`${table}.exa_settled_below`, '0'] as const,
    [`${table}.exa_settled_except`, `'{}'`] as const,
  ]),
]);

/** The one value, as SQL, that such a column may hold while a database is adopted; else null. */
export const valueBeforeUse = (table: string, column: string): string | null =>
  OWN_VALUES.get(`${table}.${column}`) ?? null;

/** Null for rows that exist = derived later by `repair --balances`; new rows get the default. */
export const isOpeningBalance = (column: string): boolean => column === 'opening_microdollars_used';

/** Other types that hold every value the ledger writes, and compare alike. */
const ALSO_FITTING: Readonly<Record<string, readonly string[]>> = {
  text: ['character varying'],
  integer: ['bigint'],
  // Of latencies and coordinates alone: six digits are enough.
  'double precision': ['real'],
};
const FITTING_HERE: Readonly<Record<ColumnName, readonly string[]>> = {
  'microdollar_usage_metadata.status_code': ['smallint'],
};

/** The ledger's own and small: a sum there is widened where it was bigint, which rewrites it. */
const SMALL_TABLES: ReadonlySet<string> = new Set([
  'rollup_coverage',
  'rollup_repairs',
  'balance_checks',
]);

export function isToBeWidened(table: string, wanted: string, found: string): boolean {
  return SMALL_TABLES.has(table) && wanted === 'numeric' && found === 'bigint';
}

export function fitsType(table: string, column: string, wanted: string, found: string): boolean {
  if (found === wanted) return true;
  return (
    (ALSO_FITTING[wanted]?.includes(found) ?? false) ||
    (FITTING_HERE[`${table}.${column}`]?.includes(found) ?? false)
  );
}
