export { UNKNOWN_GENERATION } from '../schema/unsettled.js';

/**
 * Name of the session's setting that keeps the base of positions (R6), of the ledger that the search
 * path leads to. A constant by the time a statement runs: the planner folds it.
 */
export const GENERATION_SETTING = `'microdollar.generation_' || 'microdollar_usage'::regclass::oid::text`;

/** Base of this session's positions (R6): asked once, then a setting of the session. */
export const GENERATION = `coalesce(
    nullif(current_setting(${GENERATION_SETTING}, true), '')::bigint, microdollar_generation())`;

/** Position of a row that this transaction writes (R5). */
export const POSITION = `${GENERATION} + txid_current()`;
