import type { Tracer } from '@opentelemetry/api';
import type { Pool } from 'pg';
import type { AlertStore } from './alerts/alerts.js';
import type { BudgetFolder } from './budgets/folder.js';
import type { HoldIntent, HoldRequest, HoldResult, ReleaseResult } from './budgets/types.js';
import type { FoldReport, PendingStatus } from './counter/sweep.js';
import type { Log } from './log.js';
import type { Metrics } from './metrics.js';
import type {
  BatchResult,
  ExaUsage,
  RecordedEvent,
  RecordResult,
  UsageEvent,
} from './record/types.js';
import type { AnswerSource, DailyUsage, DailyUsageQuery } from './report/types.js';
import type { UsageReportQuery } from './report/usage/query.js';
import type { UsageReport } from './report/usage/usageReport.js';
import type { ReadModeStatus } from './rollup/readMode.js';
import type { Tracing } from './tracing.js';

export type {
  HoldRequest,
  HoldResult,
  RefusingBudget,
  ReleaseResult,
} from './budgets/types.js';
export type { FoldReport, PendingStatus } from './counter/sweep.js';
export type { Log } from './log.js';
export type { AnswerSource, DailyUsage, DailyUsageQuery } from './report/types.js';
export type { UsageReportQuery } from './report/usage/query.js';
export type { UsageReportRow, UsageSums } from './report/usage/reportRows.js';
export type { UsageReport } from './report/usage/usageReport.js';
export type { ReadModeGate, ReadModeStatus } from './rollup/readMode.js';
export type { ReadMode } from './schema/settings.js';

export interface LedgerOptions {
  /** Primary, PostgreSQL 15-18. */
  databaseUrl: string;
  /** Reads that may be slightly stale. */
  replicaUrl?: string | undefined;
  /**
   * Where the ledger lives in its database; default: where the role's search path leads, as a rule
   * `public`. Behind a pooler in transaction mode the role must have it as its search path.
   */
  schema?: string | undefined;
  /** Connections for accounts and reports, and without group commit for writes. Default 10. */
  poolSize?: number | undefined;
  /** Gather concurrent calls into one statement while another is in flight. Default true. */
  groupCommit?: boolean | undefined;
  /** Leave settling to the background: fewer folds, base rows lag. Default false. */
  appendAlways?: boolean | undefined;
  /** Named prepared statements; false for poolers in transaction mode. Default true. */
  preparedStatements?: boolean | undefined;
  /** Settle in the background of this process. Default true. */
  backgroundFold?: boolean | undefined;
  /** Verify the rollup in the background, at a low rate. Default false; `start` turns it on. */
  backgroundVerify?: boolean | undefined;
  /** Send alerts to webhooks in the background of this process. Default false; `start` turns it on. */
  deliverAlerts?: boolean | undefined;
  /** How long alerts that were delivered are kept, days. Default 90. */
  keepAlertsDays?: number | undefined;
  /** Webhooks may be http, and lead to private addresses. Default false. */
  allowPrivateWebhooks?: boolean | undefined;
  /**
   * For locks of accounts and settings, and for an in-flight write of the same id, which is all that
   * a usage write ever waits for. Default 5,000 ms.
   */
  lockTimeoutMs?: number | undefined;
  /** Default 15,000 ms. */
  statementTimeoutMs?: number | undefined;
  /** Told what fails in the background. Default: nobody; failures are counted in any case. */
  log?: Log | undefined;
  /** OpenTelemetry's, for spans of writes and of the background (docs/telemetry.md). Default: none. */
  tracer?: Tracer | undefined;
}

/** Of a ledger that is a shard of one. */
export interface PartOptions extends LedgerOptions {
  /** Who holds money in this process, on whatever shard; a UUID. */
  holdOwner?: string | undefined;
}

/** Without the balance: the write is one insert, and nothing more. */
export interface WithoutBalance {
  balance: false;
}

/** Whoever is looked for: an organization pays for itself, else the user. */
export interface NamedPayer {
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
}

/** A ledger of shards is several; an ordinary one is its only part, whoever is asked for. */
export interface LedgerParts<Part> {
  /**
   * The ledger that has this payer's money and usage, or would have it, as far as is known: one that the
   * payer has left refuses it, and `at` looks again.
   * @throws LedgerError `unavailable` while it cannot be reached
   */
  of(payer: NamedPayer): Promise<Part>;
  /**
   * Runs work on the ledger that has this payer; again on another one, or a little later, where it is refused
   * because the payer has moved meanwhile. Work that is refused so has done nothing.
   * @throws as `of`, and what the work throws; `unavailable` where the payer is on its way for too long
   */
  at<T>(payer: NamedPayer, run: (ledger: Part) => Promise<T>): Promise<T>;
  /** All of them, home first. One that could not be reached yet refuses whatever it is asked. */
  readonly parts: readonly { readonly name: string | null; readonly ledger: Part }[];
}

/** What hosts get: `Ledger` of the package. */
export interface PublicLedger extends LedgerParts<PublicLedger> {
  /**
   * Connections to the primary, for `createUser` and its like; ended by `close`. A ledger of shards has none
   * of its own: give it whole to `createUser`, or ask a part.
   */
  readonly pool: Pool;
  /** For Prometheus, docs/metrics.md: `await metrics.registry.metrics()` is the text that it scrapes. */
  readonly metrics: Pick<Metrics, 'registry'>;
  /**
   * Records one event, durably, exactly once by its `id`.
   * @throws LedgerError `invalid_event`, `unknown_user`, `unknown_organization`,
   *   `idempotency_conflict`, `archived_period`, `unavailable`
   */
  recordUsage(event: UsageEvent): Promise<RecordResult>;
  recordUsage(event: UsageEvent, options: WithoutBalance): Promise<RecordedEvent>;
  /** One answer per event, in order; one bad event never fails its neighbours. */
  recordUsageBatch(events: readonly UsageEvent[]): Promise<BatchResult[]>;
  recordUsageBatch(
    events: readonly UsageEvent[],
    options: WithoutBalance,
  ): Promise<BatchResult<RecordedEvent>[]>;
  recordExaUsage(usage: ExaUsage): Promise<RecordResult>;
  /**
   * Reserves an amount before it is spent, from the payer's balance and every hard budget that
   * counts the request: all of them, or none. Idempotent by `id`, which is the id of the usage to
   * come. Waits for no other holder.
   * @throws LedgerError `invalid_event` naming the field, `unknown_user`, `unknown_organization`,
   *   `idempotency_conflict`, `unavailable`
   */
  hold(hold: HoldRequest): Promise<HoldResult>;
  /**
   * Records the usage of a hold, as `recordUsage` with its id; its time is the hold's unless the
   * event names one. What was held and not spent comes back with the next fold.
   * @throws LedgerError as `recordUsage`; `forbidden` naming the field where it is not that of the
   *   hold, `not_found`
   */
  settle(holdId: string, event: UsageEvent): Promise<RecordResult>;
  /**
   * Raises a hold to `amount` microdollars in all. Idempotent: less, or as much, is a duplicate.
   * @throws LedgerError `invalid_event`, `not_found`, `forbidden` when it is closed, `unavailable`
   */
  extend(holdId: string, amount: number): Promise<HoldResult>;
  /** Gives a hold back. @throws LedgerError `not_found`, `unavailable` */
  release(holdId: string): Promise<ReleaseResult>;
  getAverageMonthlyUsageLast3Months(query: {
    kilo_user_id: string;
    asOf?: string | Date;
  }): Promise<{ averageMonthlyUsageUsd: number; source: AnswerSource }>;
  getDailyUsage(query: DailyUsageQuery): Promise<DailyUsage[]>;
  /** The same, with where the answer came from. */
  getDailyUsageWithSource(
    query: DailyUsageQuery,
  ): Promise<{ days: DailyUsage[]; source: AnswerSource }>;
  /**
   * Usage of one payer by period and up to two of model, provider, key, project and member; exact.
   * @throws LedgerError `invalid_request` naming the field and what is allowed
   */
  getUsageReport(query: UsageReportQuery): Promise<UsageReport>;
  /** What reads use, and what is still unproven; null before the first poll. */
  getReadMode(): ReadModeStatus | null;
  /** Exact balance in microdollars used, a bigint past 2^53; null when there is no such payer. */
  getUserBalance(kiloUserId: string): Promise<number | bigint | null>;
  getOrganizationBalance(organizationId: string): Promise<number | bigint | null>;
  /** Settles what is unsettled now. */
  fold(): Promise<FoldReport>;
  getPendingStatus(): Promise<PendingStatus>;
  /** Flushes; nothing acknowledged is lost, nothing accepted is dropped. */
  close(): Promise<void>;
}

/** What the server, the gateway and commands use besides; no promise to hosts. */
export interface Ledger extends PublicLedger, LedgerParts<Ledger> {
  of(payer: NamedPayer): Promise<Ledger>;
  at<T>(payer: NamedPayer, run: (ledger: Ledger) => Promise<T>): Promise<T>;
  readonly parts: readonly { readonly name: string | null; readonly ledger: Ledger }[];
  /**
   * A read of the ledger that has this payer, whole: where the payer has left meanwhile, it is done again
   * where they are now. Of nobody it is what any ledger says.
   * @throws as `at`
   */
  ask<T>(payer: NamedPayer, read: (ledger: Ledger) => Promise<T>): Promise<T>;
  /** Prometheus registry of this ledger's metrics; see src/metrics.ts. */
  readonly metrics: Metrics;
  readonly databaseUrl: string;
  /** It is that of a pooler in transaction mode. */
  readonly viaPooler: boolean;
  /** Reads: the replica's pool, else the primary's. */
  readonly readPool: Pool;
  /** Rows that this process wrote and that may be unsettled, and for how long. */
  readonly backlog: PendingStatus;
  readonly log: Log;
  /** Null: no spans are wanted. */
  readonly tracing: Tracing | null;
  /** Folds budgets; see src/budgets/README.md. */
  readonly budgetFolder: BudgetFolder;
  /** Alerts and webhooks; see src/alerts/README.md. */
  readonly alertStore: AlertStore;
  /** With an intent that becomes durable in the same statement. */
  hold(hold: HoldRequest, intent?: HoldIntent | null): Promise<HoldResult>;
  /** A hold without an owner, which expires by its time: for callers that may not come back. */
  holdForClient(hold: HoldRequest): Promise<HoldResult>;
  /** Who holds by this id; null: nobody does any more. */
  findHolder(
    holdId: string,
  ): Promise<{ kilo_user_id: string; organization_id: string | null } | null>;
  /** What is known to be due, and who is dead: what the background does in rounds. */
  keepBudgets(): Promise<void>;
  /** Settles what this process wrote, once; rows that others hold are left. */
  settleOwn(): Promise<void>;
}
