export { createApiKey as createKey } from './accounts/apiKeys.js';
export { addCredit, type Credit } from './accounts/credits.js';
export {
  type GrantStatus,
  type GrantUse,
  type ListedCredit,
  listPayerCredits,
  type PayerCredit,
  type PayerCredits,
} from './accounts/listCredits.js';
export type { NewCredit } from './accounts/newCredit.js';
export {
  addOrganizationMember as addMember,
  createOrganization,
} from './accounts/organizations.js';
export { softDeleteUser } from './accounts/softDelete.js';
export { createUser } from './accounts/users.js';
export { type MigrateOptions, type MigrateResult, migrate } from './db/migrate.js';
export { type ErrorCode, LedgerError } from './errors.js';
export type {
  AnswerSource,
  DailyUsage,
  DailyUsageQuery,
  FoldReport,
  HoldRequest,
  HoldResult,
  LedgerOptions,
  Log,
  PendingStatus,
  PublicLedger as Ledger,
  ReadMode,
  ReadModeGate,
  ReadModeStatus,
  RefusingBudget,
  ReleaseResult,
  UsageReport,
  UsageReportQuery,
  UsageReportRow,
  UsageSums,
  WithoutBalance,
} from './ledgerTypes.js';
export { formatUsd, fromMicrodollars, toMicrodollars } from './money.js';
export { createLedger } from './publicLedger.js';
export {
  type Executor,
  insertUsageAndMetadataWithBalanceUpdate,
} from './record/onExecutor.js';
export type * from './record/types.js';
