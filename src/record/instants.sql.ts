/** An instant as microseconds since the epoch: no formatting in SQL, and no session setting read. */
export function microsOf(instantSql: string): string {
  return `(extract(epoch from ${instantSql}) * 1000000)::bigint`;
}

/** What `microsOf` answered, as ISO 8601 in UTC to the microsecond. */
export function formatMicros(micros: string): string {
  const value = BigInt(micros);
  const millis = value >= 0n ? value / 1000n : -((-value + 999n) / 1000n);
  const low = String(value - millis * 1000n).padStart(3, '0');
  return `${new Date(Number(millis)).toISOString().slice(0, -1)}${low}Z`;
}
