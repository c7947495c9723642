import { sql } from 'drizzle-orm';
import { index, numeric, type PgColumn, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { microdollarSum } from './columns.js';
import { ENTRY } from './dimensionRollups.js';

/** Sums have no width that bounds them. */
const sum = () => numeric().notNull();

/** Dimensions of a counter table, or of its exact view, whose key has them all. */
export const allDimensions = () => ({
  provider: text(),
  model: text(),
  api_key_id: uuid(),
  project_id: text(),
});

/** Columns of a counter table without further dimensions; `id` follows from the key. */
export const counterKey = () => ({
  id: uuid().primaryKey(),
  kilo_user_id: text().notNull(),
  organization_id: uuid(),
  period_start: timestamp({ withTimezone: true, mode: 'string' }).notNull(),
});

export const counterSums = () => ({
  cost_microdollars: sum(),
  /** Usage rows, so corrections and refunds too. */
  requests: sum(),
  errors: sum(),
  input_tokens: sum(),
  output_tokens: sum(),
  cache_hit_tokens: sum(),
  cache_write_tokens: sum(),
  /** Start and sums as reports send them (`ENTRY`): to print them takes longer than to read them. */
  entry: text().generatedAlwaysAs(sql.raw(ENTRY)),
});

/** The same of an exact view. */
export const exactKey = () => ({
  kilo_user_id: text(),
  organization_id: uuid(),
  period_start: timestamp({ withTimezone: true, mode: 'string' }),
});

export const exactSums = () => ({
  cost_microdollars: microdollarSum(),
  requests: microdollarSum(),
  errors: microdollarSum(),
  input_tokens: microdollarSum(),
  output_tokens: microdollarSum(),
  cache_hit_tokens: microdollarSum(),
  cache_write_tokens: microdollarSum(),
});

/** Usage of a payer by time; and a day at a time: verification, and the days that there are. */
export const counterIndexes =
  (table: string) => (t: Record<'kilo_user_id' | 'organization_id' | 'period_start', PgColumn>) => [
    index(`idx_${table}_personal`)
      .on(t.kilo_user_id, t.period_start)
      .where(sql`${t.organization_id} is null`),
    index(`idx_${table}_organization`)
      .on(t.organization_id, t.period_start)
      .where(sql`${t.organization_id} is not null`),
    index(`idx_${table}_period_start`).on(t.period_start),
  ];
