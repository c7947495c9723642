import { bigint, integer, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { requestColumns } from './columns.js';

/**
 * Requests that were let through to an upstream and whose usage is not recorded yet; written
 * before the upstream is called, removed after the usage. What a crash leaves here is settled as
 * a flagged estimate. `id` is the id of the usage row to come.
 */
export const gatewayIntents = pgTable('gateway_intents', {
  id: uuid().primaryKey(),
  /** Of `gateway_instances`: who serves the request. */
  owner: uuid().notNull(),
  ...requestColumns(),
});

/**
 * Gateway processes that may have intents. `beat` grows while one lives; it is dead for another
 * that has watched it stand still for the lease. No clock is compared across machines.
 */
export const gatewayInstances = pgTable('gateway_instances', {
  owner: uuid().primaryKey(),
  beat: bigint({ mode: 'number' }).notNull().default(0),
  /** For people. */
  host: text(),
  pid: integer(),
  started_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  seen_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
});
