import { createHash } from 'node:crypto';

/** One SQL statement with its parameters. The text is constant per `name`. */
export interface Statement {
  /** Name to prepare it under, once a connection. */
  name: string;
  text: string;
  values: unknown[];
  /**
   * One plan is good for all values, as where a row is found by its key: prepared also where other
   * statements are planned anew for theirs.
   */
  plannedOnce?: boolean;
}

/** For texts that follow from columns, or from what is asked: another for each text, and never too long. */
export function nameOfText(text: string): string {
  return `microdollar_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
}

/**
 * A one-dimensional PostgreSQL array literal of numbers, booleans, UUIDs or instants, which need
 * no quoting; null for null.
 */
export function plainArray(values: readonly (number | string | boolean | null)[]): string {
  let list = '';
  for (const value of values) list += list === '' ? value : `,${value}`;
  return `{${list}}`;
}

/** A PostgreSQL text array literal. All null: empty, for `unnest` pads short arrays with null. */
export function textArray(values: readonly (string | null)[]): string {
  if (values.every((value) => value === null)) return '{}';
  let list = '';
  for (const value of values) {
    if (list !== '') list += ',';
    if (value === null) list += 'null';
    else list += `"${/["\\]/.test(value) ? value.replace(/["\\]/g, '\\$&') : value}"`;
  }
  return `{${list}}`;
}
