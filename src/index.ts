export type { Credit } from './accounts/credits.js';
export type {
  GrantStatus,
  GrantUse,
  ListedCredit,
  PayerCredit,
  PayerCredits,
} from './accounts/listCredits.js';
export type { NewCredit } from './accounts/newCredit.js';
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
  LedgerParts,
  Log,
  NamedPayer,
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
export {
  type Accounts,
  addCredit,
  addMember,
  createKey,
  createOrganization,
  createUser,
  listPayerCredits,
  softDeleteUser,
} from './shards/accounts.js';
export { type MigrateShardsResult, migrateShards } from './shards/migrateShards.js';
export type { BucketReport } from './shards/move/moveBucket.js';
export type { Moves } from './shards/move/moves.js';
export { type OpenMoves, openMoves, type ShardStatus } from './shards/move/openMoves.js';
export type { MoveOptions, MoveReport } from './shards/move/types.js';
export type { ShardedLedgerOptions } from './shards/shardedLedger.js';
export { readShardsFile, type ShardOptions } from './shards/shardsFile.js';
