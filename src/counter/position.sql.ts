export { UNKNOWN_GENERATION } from '../schema/unsettled.js';

/** Base of this session's positions (R6): asked once, then a setting of the session. */
export const GENERATION = `coalesce(
    nullif(current_setting('microdollar.generation', true), '')::bigint, microdollar_generation())`;

/** Position of a row that this transaction writes (R5). */
export const POSITION = `${GENERATION} + txid_current()`;
