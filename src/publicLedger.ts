import { createLedger as openLedger } from './ledger.js';
import type { LedgerOptions, PublicLedger } from './ledgerTypes.js';

/**
 * Opens a ledger on a migrated database (`migrate`).
 * @throws LedgerError `invalid_request` without a database URL; `unavailable` when the database
 *   cannot be reached, or lacks migrations
 */
export const createLedger: (options: LedgerOptions) => Promise<PublicLedger> = openLedger;
