import { getTableColumns } from 'drizzle-orm';
import { toJsonInteger } from '../../money.js';
import { LOOKUP_NAMES, PERSONAL_LOOKUP_NAMES } from '../../schema/lookupNames.js';
import { microdollarUsage } from '../../schema/usage.js';
import { microdollarUsageMetadata } from '../../schema/usageMetadata.js';

/**
 * What an archived event holds, from the schema, so that a new column is archived as well. Lookups
 * are archived by value.
 */
export interface ArchivedColumn {
  name: string;
  /** Its name as that of a member of a JSON object, with the colon. */
  member: string;
  /** The driver has it as a number, or as text: an adopted table may be wider than the ledger's own. */
  isInteger: boolean;
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

const INTEGERS: ReadonlySet<string> = new Set(['PgBigInt53', 'PgInteger', 'PgSmallInt']);

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
    member: memberOf(name),
    isInteger: false,
    isLookup: true,
    isPersonal: PERSONAL_FIELDS.has(name),
  })),
];

function memberOf(name: string): string {
  return `${JSON.stringify(name)}:`;
}

function columnsOf(columns: Record<string, { columnType: string }>): ArchivedColumn[] {
  return Object.entries(columns).map(([name, { columnType }]) => ({
    name,
    member: memberOf(name),
    isInteger: INTEGERS.has(columnType),
    isLookup: false,
    isPersonal: PERSONAL_FIELDS.has(name),
  }));
}

/**
 * The members of a JSON object: the fields that are not null, of values in the order of `columns` from
 * `from` on. Written as text: an object of each row with its own keys would cost more than all else.
 */
export function membersOf(
  columns: readonly ArchivedColumn[],
  values: readonly unknown[],
  from: number,
): string {
  let members = '';
  for (let index = 0; index < columns.length; index++) {
    const value = values[from + index];
    if (value === null || value === undefined) continue;
    const column = columns[index] as ArchivedColumn;
    if (members !== '') members += ',';
    members += column.member + toJsonText(value, column.isInteger);
  }
  return members;
}

function toJsonText(value: unknown, isInteger: boolean): string {
  if (isInteger) return JSON.stringify(toJsonInteger(String(value)));
  // JSON has no NaN and no infinity; as text they are at least not lost.
  if (typeof value === 'number' && !Number.isFinite(value)) return `"${value}"`;
  return JSON.stringify(value);
}
