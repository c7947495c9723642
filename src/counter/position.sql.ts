/** Base of this session's positions (R6): asked once, then a setting of the session. */
export const GENERATION = `coalesce(
    nullif(current_setting('microdollar.generation', true), '')::bigint, microdollar_generation())`;

/** Position of a row that this transaction writes (R5). */
export const POSITION = `${GENERATION} + txid_current()`;

/** From here on: written where the ledger did not know the cluster; above every mark. */
export const UNKNOWN_GENERATION = 524_287n << 44n;
