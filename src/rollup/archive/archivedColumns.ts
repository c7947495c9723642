import { getTableColumns } from 'drizzle-orm';
import { toJsonInteger } from '../../money.js';
import { LOOKUP_NAMES, PERSONAL_LOOKUP_NAMES } from '../../schema/lookups.js';
import { microdollarUsage } from '../../schema/usage.js';
import { microdollarUsageMetadata } from '../../schema/usageMetadata.js';

/**
 * What an archived event holds, from the schema, so that a new column is archived as well. Lookups
 * are archived by value.
 */
export interface ArchivedColumn {
  name: string;
  isBigint: boolean;
  isLookup: boolean;
  /**
   * Metadata that soft deletion scrubs (src/accounts/softDelete.ts); a test holds the two lists
   * together. Left out of files unless asked for, and always for a user who is deleted.
   */
  isPersonal: boolean;
}

const PERSONAL_FIELDS: ReadonlySet<string> = new Set([
  'user_prompt_prefix',
  'vercel_ip_latitude',
  'vercel_ip_longitude',
  'machine_id',
  'session_id',
  'end_user',
  ...PERSONAL_LOOKUP_NAMES,
]);

/** No values of their own: keys, and what lookups are stored as. */
const OTHER_METADATA_COLUMNS: ReadonlySet<string> = new Set([
  'id',
  'kilo_user_id',
  'created_at',
  'lookup_values',
  ...LOOKUP_NAMES.map((name: string) => `${name}_id`),
]);

/** Where a row stands in the log is no part of the event. */
export const USAGE_COLUMNS: readonly ArchivedColumn[] = columnsOf(
  getTableColumns(microdollarUsage),
).filter(({ name }) => name !== 'position');
export const METADATA_COLUMNS: readonly ArchivedColumn[] = [
  ...columnsOf(getTableColumns(microdollarUsageMetadata)).filter(
    ({ name }) => !OTHER_METADATA_COLUMNS.has(name),
  ),
  ...LOOKUP_NAMES.map((name: string) => ({
    name,
    isBigint: false,
    isLookup: true,
    isPersonal: PERSONAL_FIELDS.has(name),
  })),
];

function columnsOf(columns: Record<string, { columnType: string }>): ArchivedColumn[] {
  return Object.entries(columns).map(([name, { columnType }]) => ({
    name,
    isBigint: columnType === 'PgBigInt53',
    isLookup: false,
    isPersonal: PERSONAL_FIELDS.has(name),
  }));
}

/** The fields that are not null, of values in the order of `columns`. */
export function fieldsOf(
  columns: readonly ArchivedColumn[],
  values: readonly unknown[],
): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const [index, { name, isBigint }] of columns.entries()) {
    const value = values[index];
    if (value === null || value === undefined) continue;
    fields[name] = isBigint ? toJsonInteger(String(value)) : toJsonValue(value);
  }
  return fields;
}

/** JSON has no NaN and no infinity; as text they are at least not lost. */
function toJsonValue(value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}
