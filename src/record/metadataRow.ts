import { getTableColumns } from 'drizzle-orm';
import { plainArray, textArray } from '../db/statement.js';
import type { LookupName } from '../schema/lookups.js';
import { microdollarUsageMetadata } from '../schema/usageMetadata.js';
import type { ValidEvent } from './event.js';

type Value = string | number | boolean | null;

/** Metadata of one event, in the order of `COLUMNS`. */
export type MetadataRow = readonly Value[];

/** Columns beside those that the usage row gives: id, user and time. */
const COLUMNS = Object.values(getTableColumns(microdollarUsageMetadata))
  .map((column) => ({ name: column.name, type: column.getSQLType() }))
  .filter(({ name }) => !['id', 'kilo_user_id', 'created_at'].includes(name));
const PLACES = new Map(COLUMNS.map(({ name }, place) => [name, place]));
const LOOKUP_VALUES = PLACES.get('lookup_values') as number;
const QUOTED = new Set(['text', 'jsonb', 'text[]']);
/** Of many rows, an array of each is sent as its literal: `unnest` would take them apart. */
const isArray = (type: string): boolean => type.endsWith('[]');

export const METADATA_COLUMN_LIST = COLUMNS.map(({ name }) => name).join(', ');
/** Of the rows `m` that `metadataArrayParameters` make. */
export const METADATA_SELECTED = COLUMNS.map(({ name, type }) =>
  isArray(type) ? `m.${name}::${type}` : `m.${name}`,
).join(', ');

/** Parameters of one row, the first of them `$first`. */
export function metadataParameters(first: number): string {
  return COLUMNS.map(({ type }, place) => `$${first + place}::${type}`).join(', ');
}

/** Parameters of many rows: one array a column. */
export function metadataArrayParameters(first: number): string {
  return COLUMNS.map(
    ({ type }, place) => `$${first + place}::${isArray(type) ? 'text' : type}[]`,
  ).join(', ');
}

/** Ids of lookup values where `findId` knows them, else the values, for the fold to resolve. */
export function toMetadataRow(
  event: ValidEvent,
  findId: (name: string, value: string) => number | undefined,
): MetadataRow | null {
  if (event.metadata === null) return null;
  const row: Value[] = new Array(COLUMNS.length).fill(null);
  for (const [name, value] of Object.entries(event.metadata)) {
    row[PLACES.get(name) as number] = value;
  }
  const unresolved: Partial<Record<LookupName, string>> = {};
  for (const [name, value] of Object.entries(event.lookups)) {
    const id = findId(name, value);
    if (id !== undefined) row[PLACES.get(`${name}_id`) as number] = id;
    else unresolved[name as LookupName] = value;
  }
  if (Object.keys(unresolved).length > 0) row[LOOKUP_VALUES] = JSON.stringify(unresolved);
  return row;
}

/** Values for `metadataArrayParameters`. A column that is null throughout is an empty array. */
export function metadataArrays(rows: readonly (MetadataRow | null)[]): string[] {
  return COLUMNS.map(({ type }, place) => {
    const values = rows.map((row) => row?.[place] ?? null);
    if (values.every((value) => value === null)) return '{}';
    return QUOTED.has(type) ? textArray(values as (string | null)[]) : plainArray(values);
  });
}
