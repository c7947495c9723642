import { bigint, customType } from 'drizzle-orm/pg-core';

/** PostgreSQL's 64-bit transaction id; never wraps. Travels as text. */
export const xid8 = customType<{ data: string; driverData: string }>({
  dataType: () => 'xid8',
});

/** A signed amount in microdollars (1 USD = 1,000,000), read as a JavaScript number. */
export const microdollars = () => bigint({ mode: 'number' });
