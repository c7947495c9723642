import type { Pool } from 'pg';
import type { FoldReport, PendingStatus } from './counter/types.js';
import type { Metrics } from './metrics.js';
import type { BatchResult, ExaUsage, RecordResult, UsageEvent } from './record/types.js';
import type { AnswerSource, DailyUsage, DailyUsageQuery } from './report/types.js';
import type { ReadModeStatus } from './rollup/readMode.js';

export type { FoldReport, PendingStatus } from './counter/types.js';
export type { AnswerSource, DailyUsage, DailyUsageQuery } from './report/types.js';
export type { ReadModeGate, ReadModeStatus } from './rollup/readMode.js';
export type { ReadMode } from './schema/settings.js';

export interface LedgerOptions {
  /** Primary, PostgreSQL 15-18. */
  databaseUrl: string;
  /** Reads that may be slightly stale. */
  replicaUrl?: string;
  /** Connections to the primary. Default 10. */
  poolSize?: number;
  /** Gather concurrent calls into one statement while another is in flight. Default true. */
  groupCommit?: boolean;
  /** Always append deltas and leave the counter rows to the fold. Default false. */
  appendAlways?: boolean;
  /** Named prepared statements; false for poolers in transaction mode. Default true. */
  preparedStatements?: boolean;
  /** Fold pending deltas in the background of this process. Default true. */
  backgroundFold?: boolean;
  /** Verify the rollup in the background, at a low rate. Default false; `start` turns it on. */
  backgroundVerify?: boolean;
  /** Exa: free per user and month, microdollars. Default 10,000,000 (10 USD). */
  exaFreeAllowanceMicrodollars?: number;
  /** Default 5,000 ms. */
  lockTimeoutMs?: number;
  /** Default 15,000 ms. */
  statementTimeoutMs?: number;
}

export interface Ledger {
  recordUsage(event: UsageEvent): Promise<RecordResult>;
  recordUsageBatch(events: readonly UsageEvent[]): Promise<BatchResult[]>;
  recordExaUsage(usage: ExaUsage): Promise<RecordResult>;
  getAverageMonthlyUsageLast3Months(query: {
    kilo_user_id: string;
    asOf?: string | Date;
  }): Promise<{ averageMonthlyUsageUsd: number; source: AnswerSource }>;
  getDailyUsage(query: DailyUsageQuery): Promise<DailyUsage[]>;
  /** The same, with where the answer came from. */
  getDailyUsageWithSource(
    query: DailyUsageQuery,
  ): Promise<{ days: DailyUsage[]; source: AnswerSource }>;
  /** What reads use, and what is still unproven; null before the first poll. */
  getReadMode(): ReadModeStatus | null;
  /** Exact balance in microdollars used; null when there is no such payer. */
  getUserBalance(kiloUserId: string): Promise<number | null>;
  getOrganizationBalance(organizationId: string): Promise<number | null>;
  /** Drains what is pending now. */
  fold(): Promise<FoldReport>;
  getPendingStatus(): Promise<PendingStatus>;
  /** Prometheus registry of this ledger's metrics; see src/metrics.ts. */
  readonly metrics: Metrics;
  readonly pool: Pool;
  /** Reads: the replica's pool, else the primary's. */
  readonly readPool: Pool;
  /** Flushes; nothing acknowledged is lost, nothing accepted is dropped. */
  close(): Promise<void>;
}
