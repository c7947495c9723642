import { getTableColumns } from 'drizzle-orm';
import { plainArray, textArray } from '../db/statement.js';
import { microdollarUsage } from '../schema/usage.js';
import type { ValidEvent } from './event.js';

/**
 * The columns of a usage event, declared once, by the schema: every statement derives its column
 * lists, parameters and values from here. `created_at` comes last; `position` is the ledger's own.
 */
const COLUMNS = Object.values(getTableColumns(microdollarUsage))
  .map((column) => ({ name: column.name as keyof ValidEvent, type: column.getSQLType() }))
  .filter(({ name }) => !['created_at', 'position'].includes(name))
  .concat({ name: 'created_at', type: 'timestamptz' });

const NAMES = COLUMNS.map(({ name }) => name);

export const USAGE_PARAMETERS = COLUMNS.length;

/** All but `created_at`, whose default is the database's clock. */
export const GIVEN_COLUMN_LIST = NAMES.slice(0, -1).join(', ');
export const USAGE_COLUMN_LIST = NAMES.join(', ');

/** `$n::type` of a column, the first of them `$1`. */
export function usageParameter(name: keyof ValidEvent): string {
  const place = NAMES.indexOf(name);
  return `$${place + 1}::${COLUMNS[place]?.type}`;
}

export const GIVEN_PARAMETERS = NAMES.slice(0, -1).map(usageParameter).join(', ');

/** Parameters of many events: one array a column. */
export const USAGE_ARRAY_PARAMETERS = COLUMNS.map(
  ({ type }, place) => `$${place + 1}::${type}[]`,
).join(', ');

/**
 * Many events as rows `e`. In a list of columns `unnest` gives value after value; as a table, each array
 * would be written to a store of its own, and every row be made of all of these.
 */
export const USAGE_ROWS = `(
    select ${COLUMNS.map(({ name, type }, place) => `unnest($${place + 1}::${type}[]) as ${name}`).join(', ')}
  ) as e`;

/** Without its time where it has none: the text then names no parameter for it. */
export function usageValues(event: ValidEvent): unknown[] {
  const values = NAMES.map((name) => event[name]);
  if (event.created_at === null) values.pop();
  return values as unknown[];
}

export function usageArrays(events: readonly ValidEvent[]): string[] {
  return COLUMNS.map(({ name, type }) => {
    const values = events.map((event) => event[name] as string | number | boolean | null);
    if (values.every((value) => value === null)) return '{}';
    return type === 'text' ? textArray(values as (string | null)[]) : plainArray(values);
  });
}

/**
 * What a replay must repeat (I3), of an event `e` and its stored row `m`; `created_at` only where the
 * caller gave it.
 */
const CONTENT = [
  'kilo_user_id',
  'organization_id',
  'cost',
  'input_tokens',
  'output_tokens',
  'cache_write_tokens',
  'cache_hit_tokens',
  'provider',
  'model',
  'requested_model',
] as const satisfies readonly (keyof ValidEvent)[];

/** An adopted row may have no counts; an event that says none has zero. */
const stored = (name: (typeof CONTENT)[number]) =>
  name.endsWith('_tokens') ? `coalesce(m.${name}, 0)` : `m.${name}`;

export const IS_SAME_CONTENT = `${CONTENT.map(
  (name) => `${stored(name)} is not distinct from e.${name}`,
).join('\n      and ')}
      and (e.created_at is null or m.created_at = e.created_at)`;
