import type { BudgetPeriod, BudgetScope } from '../schema/budgets.js';

/** What is to be held before it is spent. */
export interface HoldRequest {
  /** UUID: the id of the usage row to come, and the idempotency key. Made when absent. */
  id?: string | null | undefined;
  kilo_user_id: string;
  organization_id?: string | null | undefined;
  /** Budgets of a key or a project count what names it. */
  api_key_id?: string | null | undefined;
  project_id?: string | null | undefined;
  /** Microdollars, 0 to 10^12. */
  amount: number;
  /**
   * For a hold without a living owner, ms: it is released by itself after this time. Default ten
   * minutes, at most a day. A hold of a ledger in this process lives as long as the process.
   */
  expires_in_ms?: number | null | undefined;
}

/**
 * The intent of a gateway's request (schema/gatewayIntents.ts), of whoever holds: durable with its
 * hold, both or neither.
 */
export interface HoldIntent {
  owner: string;
  api_key_id: string | null;
  api_kind: string;
  requested_model: string | null;
  input_tokens_estimate: number;
  max_tokens: number | null;
  streamed: boolean;
}

/** The budget that refused: the one with the least left. */
export interface RefusingBudget {
  id: string;
  scope: BudgetScope;
  window: BudgetPeriod;
  /** The payer's balance: what it acquired. */
  is_balance: boolean;
  limit_microdollars: number;
}

export interface HoldResult {
  id: string;
  /** `duplicate`: this hold was granted before, or its usage is recorded. */
  status: 'granted' | 'refused' | 'duplicate';
  /** Microdollars that are held; 0 when refused, or settled already. */
  amount: number;
  /** Microdollars left of the window that has least, as far as is accounted for. */
  available_microdollars: number;
  /** ISO 8601; the usage row's time, unless it says another. Null when refused. */
  created_at: string | null;
  refused_by?: RefusingBudget;
  /** ISO 8601: when the window that refused ends; null of all time. With `refused_by`. */
  resets_at?: string | null;
}

export interface ReleaseResult {
  id: string;
  /** `settled`: its usage is recorded, there was nothing left to release. */
  status: 'released' | 'duplicate' | 'settled';
}
