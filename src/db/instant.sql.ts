/** Whether an instant has a year of four digits; rows of other programs may lie anywhere. */
export const isOrdinaryInstant = (instantSql: string): string =>
  `${instantSql} >= '0001-01-01T00:00:00Z' and ${instantSql} < '10000-01-01T00:00:00Z'`;

/**
 * An instant as ISO 8601 in UTC, to the microsecond or millisecond; `infinity`, and years that ISO has
 * no four digits for, as the database prints them, for `to_char` has null or another year for these.
 */
export const instantText = (instantSql: string, fraction: 'US' | 'MS' = 'US'): string =>
  `case when ${isOrdinaryInstant(instantSql)}
    then to_char(${instantSql} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.${fraction}"Z"')
    else ${instantSql}::text end`;

/** By which instants are compared outside the database, infinite ones too: microseconds since 1970. */
export const instantMicros = (instantSql: string): string =>
  `trunc(extract(epoch from ${instantSql}) * 1000000)::text`;

/**
 * The first instant of a day of a zone, `midnight` being its local one: just after the last of the day
 * before. Midnight itself may be skipped (Santiago), or come twice (Havana, the Azores), and then the
 * database takes the second.
 */
export const firstInstantIn = (zone: string, midnight: string): string =>
  `(((${midnight} - interval '1 microsecond') at time zone ${zone}) + interval '1 microsecond')`;
