export { softDeleteUser } from './accounts/softDelete.js';
export { type ErrorCode, LedgerError } from './errors.js';
export { createLedger } from './ledger.js';
export type * from './ledgerTypes.js';
export { formatUsd, fromMicrodollars, toMicrodollars } from './money.js';
export {
  type Executor,
  insertUsageAndMetadataWithBalanceUpdate,
} from './record/onExecutor.js';
export type * from './record/types.js';
