import { sql } from 'drizzle-orm';
import { numeric, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { microdollarSum } from './columns.js';
import { ENTRY } from './dimensionRollups.js';

/** Sums have no width that bounds them. */
const sum = () => numeric().notNull();

/** Columns of a counter table whose key has every dimension; `id` follows from the key. */
export const dimensionCounterColumns = () => ({
  id: uuid().primaryKey(),
  kilo_user_id: text().notNull(),
  organization_id: uuid(),
  period_start: timestamp({ withTimezone: true, mode: 'string' }).notNull(),
  provider: text(),
  model: text(),
  api_key_id: uuid(),
  project_id: text(),
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

/** The same of its exact view. */
export const dimensionSumColumns = () => ({
  kilo_user_id: text(),
  organization_id: uuid(),
  period_start: timestamp({ withTimezone: true, mode: 'string' }),
  provider: text(),
  model: text(),
  api_key_id: uuid(),
  project_id: text(),
  cost_microdollars: microdollarSum(),
  requests: microdollarSum(),
  errors: microdollarSum(),
  input_tokens: microdollarSum(),
  output_tokens: microdollarSum(),
  cache_hit_tokens: microdollarSum(),
  cache_write_tokens: microdollarSum(),
});
