import { bigint, boolean, customType, text, timestamp, uuid } from 'drizzle-orm/pg-core';

/** PostgreSQL's 64-bit transaction id; never wraps. Travels as text. */
export const xid8 = customType<{ data: string; driverData: string }>({
  dataType: () => 'xid8',
});

/** A point in time, read as the text that PostgreSQL writes. */
export const instant = () => timestamp({ withTimezone: true, mode: 'string' });

/** A signed amount in microdollars (1 USD = 1,000,000), read as a JavaScript number. */
export const microdollars = () => bigint({ mode: 'number' });

/**
 * A sum of amounts, which no type of fixed width bounds: a number up to 2^53, a bigint beyond, so
 * exact in either case.
 */
export const microdollarSum = customType<{ data: number | bigint; driverData: string }>({
  dataType: () => 'numeric',
  fromDriver: (value) => {
    const exact = BigInt(value);
    const number = Number(exact);
    return Number.isSafeInteger(number) ? number : exact;
  },
});

/** What is known of a request before its usage: who pays, with which key, for what. */
export const requestColumns = () => ({
  kilo_user_id: text().notNull(),
  organization_id: uuid(),
  /** Of `api_keys`, or `admin`. */
  api_key_id: text(),
  api_kind: text().notNull(),
  requested_model: text(),
  input_tokens_estimate: bigint({ mode: 'number' }).notNull(),
  max_tokens: bigint({ mode: 'number' }),
  streamed: boolean().notNull(),
  created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull(),
});
