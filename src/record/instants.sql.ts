import { isOrdinaryInstant } from '../db/instant.sql.js';

/** An instant as microseconds since the epoch: no formatting in SQL, and no session setting read. */
export function microsOf(instantSql: string): string {
  return `(extract(epoch from ${instantSql}) * 1000000)::bigint`;
}

/**
 * The same of an instant of these centuries, in a tenth of the time: a double is exact to an eighth of
 * a microsecond there.
 */
export function microsOfOurTime(instantSql: string): string {
  return `(date_part('epoch', ${instantSql}) * 1000000)::bigint`;
}

/** The same of a row that may be another program's: what 64 bits or ISO 8601 cannot hold, as text. */
export function storedMicrosOf(instantSql: string): string {
  return `case when ${isOrdinaryInstant(instantSql)} then ${microsOf(instantSql)}::text
    else ${instantSql}::text end`;
}

/** What either answered, as ISO 8601 in UTC to the microsecond, or as the database prints it. */
export function formatMicros(micros: string): string {
  if (!/^-?\d+$/.test(micros)) return micros;
  const value = BigInt(micros);
  const millis = value >= 0n ? value / 1000n : -((-value + 999n) / 1000n);
  const low = String(value - millis * 1000n).padStart(3, '0');
  return `${new Date(Number(millis)).toISOString().slice(0, -1)}${low}Z`;
}
