import { bigint, customType } from 'drizzle-orm/pg-core';

/** PostgreSQL's 64-bit transaction id; never wraps. Travels as text. */
export const xid8 = customType<{ data: string; driverData: string }>({
  dataType: () => 'xid8',
});

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
