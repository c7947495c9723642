import { getTableColumns } from 'drizzle-orm';
import { plainArray, textArray } from '../db/statement.js';
import { LOOKUP_NAMES, type LookupName } from '../schema/lookupNames.js';
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
const LOOKUP_PLACES = new Map(
  LOOKUP_NAMES.map((name) => [name, PLACES.get(`${name}_id`) as number]),
);
const LOOKUP_VALUES = PLACES.get('lookup_values') as number;
const QUOTED = new Set(['text', 'jsonb', 'text[]']);
/** Of many rows, an array of each is sent as its literal: `unnest` would take them apart. */
const isArray = (type: string): boolean => type.endsWith('[]');

/** The columns that a statement writes, and their parameters and values. */
export class MetadataShape {
  /** In names of statements: another one for other columns, short, for a name has 63 characters. */
  readonly key: string;
  readonly columnList: string;
  /** Of the rows `m` that `arrayParameters` make. */
  readonly selected: string;
  readonly #places: readonly number[];
  readonly #columns: readonly (typeof COLUMNS)[number][];

  constructor(isUsed: readonly boolean[]) {
    this.#places = [...isUsed.keys()].filter((place) => isUsed[place]);
    this.#columns = this.#places.map((place) => COLUMNS[place] as (typeof COLUMNS)[number]);
    const bits = this.#places.reduce((sum, place) => sum | (1n << BigInt(place)), 0n);
    this.key = `m${bits.toString(36)}`;
    // All of them null: a row all the same.
    this.columnList = ['', ...this.#columns.map(({ name }) => name)].join(', ');
    this.selected = [
      '',
      ...this.#columns.map(({ name, type }) =>
        isArray(type) ? `m.${name}::${type}` : `m.${name}`,
      ),
    ].join(', ');
  }

  /** Parameters of one row, the first of them `$first`. */
  parameters(first: number): string {
    return this.#columns.map(({ type }, index) => `, $${first + index}::${type}`).join('');
  }

  /** Columns of many rows, of one array each. */
  arrayParameters(first: number): string {
    return this.#columns
      .map(({ name, type }, index) => {
        return `, unnest($${first + index}::${isArray(type) ? 'text' : type}[]) as ${name}`;
      })
      .join('');
  }

  values(row: MetadataRow): Value[] {
    return this.#places.map((place) => row[place] ?? null);
  }

  /** Values for `arrayParameters`. A column that is null throughout is an empty array. */
  arrays(rows: readonly (MetadataRow | null)[]): string[] {
    return this.#columns.map(({ type }, index) => {
      const place = this.#places[index] as number;
      const values = rows.map((row) => row?.[place] ?? null);
      if (values.every((value) => value === null)) return '{}';
      return QUOTED.has(type) ? textArray(values as (string | null)[]) : plainArray(values);
    });
  }
}

/**
 * Columns that this process has written. Most of 47 are null in every event of an application, and each
 * costs client and server about as much as one that is not; so statements name those that were
 * ever used. The set only grows: a process soon has one shape, and at most one more for each column.
 */
const isUsed: boolean[] = COLUMNS.map(() => false);
let shape: MetadataShape | null = null;

/** Of every row made until now. */
export function metadataShape(): MetadataShape {
  shape ??= new MetadataShape(isUsed);
  return shape;
}

function put(row: Value[], place: number, value: Value): void {
  row[place] = value;
  if (isUsed[place]) return;
  isUsed[place] = true;
  shape = null;
}

type FindId = (name: LookupName, value: string) => number | undefined;

/** Ids of lookup values where `findId` knows them, else the values, for the fold to resolve. */
export function toMetadataRow(event: ValidEvent, findId: FindId): MetadataRow | null {
  const row = startRow(event);
  let unresolved: Partial<Record<LookupName, string>> | undefined;
  for (const each in event.lookups) {
    const name = each as LookupName;
    const value = event.lookups[name] as string;
    const id = findId(name, value);
    if (row && id !== undefined) put(row, LOOKUP_PLACES.get(name) as number, id);
    else unresolved = Object.assign(unresolved ?? {}, { [name]: value });
  }
  if (row && unresolved) put(row, LOOKUP_VALUES, JSON.stringify(unresolved));
  return row;
}

/** The same; undefined where `findId` does not know every id. */
export function toCompleteRow(event: ValidEvent, findId: FindId): MetadataRow | null | undefined {
  const row = startRow(event);
  if (!row) return null;
  for (const each in event.lookups) {
    const name = each as LookupName;
    const id = findId(name, event.lookups[name] as string);
    if (id === undefined) return undefined;
    put(row, LOOKUP_PLACES.get(name) as number, id);
  }
  return row;
}

function startRow({ metadata }: ValidEvent): Value[] | null {
  if (metadata === null) return null;
  const row: Value[] = new Array(COLUMNS.length).fill(null);
  for (const name in metadata) put(row, PLACES.get(name) as number, metadata[name] as Value);
  return row;
}
