/** Partitions of the log, by the month of their ids' time: names and bounds (docs/adr/0013). Pure. */

export const USAGE = 'microdollar_usage';
export const DEFAULT_PARTITION = `${USAGE}_default`;

/** A UTC month, `YYYY-MM`. */
export type Month = string;

const PREPARING = `${USAGE}_prepare_`;
const MONTH_NAME = /^(\d{4})_(\d{2})$/;

/** Of an instant, ms since the epoch. */
export const monthOf = (ms: number): Month => new Date(ms).toISOString().slice(0, 7);

/** Its first instant, ms since the epoch. */
export const startOf = (month: Month): number => Date.parse(`${month}-01T00:00:00Z`);

export function addMonths(month: Month, count: number): Month {
  const date = new Date(startOf(month));
  date.setUTCMonth(date.getUTCMonth() + count);
  return monthOf(date.getTime());
}

/** From `first` to `last`, inclusive. */
export function monthsBetween(first: Month, last: Month): Month[] {
  const months: Month[] = [];
  for (let month = first; month <= last; month = addMonths(month, 1)) months.push(month);
  return months;
}

/** The lowest id of a month: a UUID v7 begins with its time, in ms, in 48 bits (RFC 9562). */
export function lowestIdOf(month: Month): string {
  const time = startOf(month).toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`;
}

/** Bounds of months from `first` to `last`, as SQL: from the first id on, before the second. */
export function boundsOf(first: Month, last: Month): [from: string, until: string] {
  return [`'${lowestIdOf(first)}'`, `'${lowestIdOf(addMonths(last, 1))}'`];
}

const toName = (month: Month) => month.replace('-', '_');

export const partitionOf = (month: Month): string => `${USAGE}_${toName(month)}`;

/** Null: not named as a partition of a month. */
export function monthOfPartition(name: string): Month | null {
  return name.startsWith(`${USAGE}_`) ? toMonth(name.slice(USAGE.length + 1)) : null;
}

/** Of the check that keeps ids of these months out of the default partition; says which they are. */
export const preparingName = (first: Month, last: Month): string =>
  `${PREPARING}${toName(first)}_${toName(last)}`;

export function monthsOfPreparing(constraint: string): [first: Month, last: Month] | null {
  if (!constraint.startsWith(PREPARING)) return null;
  const months = constraint.slice(PREPARING.length);
  const [first, last] = [toMonth(months.slice(0, 7)), toMonth(months.slice(8))];
  return first === null || last === null ? null : [first, last];
}

function toMonth(name: string): Month | null {
  const [, year, month] = MONTH_NAME.exec(name) ?? [];
  return year === undefined || month === undefined ? null : `${year}-${month}`;
}
