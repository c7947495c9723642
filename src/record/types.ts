import type { LookupName } from '../schema/lookupNames.js';

/** One usage event, in the column names of `microdollar_usage`. Units: microdollars, tokens. */
export interface UsageEvent {
  /** Idempotency key; a time-ordered UUID (v7) is made when absent. */
  id?: string | null;
  kilo_user_id: string;
  organization_id?: string | null;
  /** Microdollars; may be 0 or negative (refund). */
  cost: number;
  input_tokens?: number | null;
  output_tokens?: number | null;
  cache_write_tokens?: number | null;
  cache_hit_tokens?: number | null;
  /** ISO 8601 with offset; default: the database's clock. */
  created_at?: string | Date | null;
  provider?: string | null;
  model?: string | null;
  requested_model?: string | null;
  inference_provider?: string | null;
  project_id?: string | null;
  /** UUID of the key that paid. */
  api_key_id?: string | null;
  /** The application's own user and session, 1-256 characters; scrubbed by soft deletion. */
  end_user?: string | null;
  session_id?: string | null;
  /** Up to 16 texts of 1-64 characters; stored sorted, without repeats. */
  tags?: readonly string[] | null;
  cache_discount?: number | null;
  has_error?: boolean | null;
  metadata?: UsageMetadata | null;
}

/** Columns of `microdollar_usage_metadata`; lookups by value. Latencies in ms. */
export type UsageMetadata = { [Name in LookupName]?: string | null } & {
  message_id?: string | null;
  upstream_id?: string | null;
  session_id?: string | null;
  end_user?: string | null;
  tags?: readonly string[] | null;
  machine_id?: string | null;
  user_prompt_prefix?: string | null;
  system_prompt_length?: number | null;
  max_tokens?: number | null;
  status_code?: number | null;
  latency?: number | null;
  moderation_latency?: number | null;
  generation_time?: number | null;
  reasoning_tokens?: number | null;
  has_middle_out_transform?: boolean | null;
  has_tools?: boolean | null;
  is_byok?: boolean | null;
  is_user_byok?: boolean | null;
  is_free?: boolean | null;
  streamed?: boolean | null;
  cancelled?: boolean | null;
  estimated?: string | null;
  unpriced?: boolean | null;
  price_source?: string | null;
  price_version?: string | null;
  market_cost?: number | null;
  /** Microdollars that the provider itself reported, also where they are not what is charged. */
  reported_cost?: number | null;
  /** What is doubtful of counts and cost, and what a price depends on where there was none. */
  usage_details?: UsageDetails | null;
  adjusts_usage_id?: string | null;
  /** With `adjusts_usage_id`: of the corrections of that row the n-th. */
  correction_number?: number | null;
  vercel_ip_latitude?: number | null;
  vercel_ip_longitude?: number | null;
};

/** A JSON object of at most 8,192 characters. */
export type UsageDetails = { readonly [name: string]: unknown };

/** What became of one event. Time ISO 8601 UTC to the microsecond. */
export interface RecordedEvent {
  id: string;
  created_at: string;
  status: 'recorded' | 'duplicate';
}

export interface RecordResult extends RecordedEvent {
  /**
   * Payer's balance, microdollars: everything committed before, and this write. A bigint past 2^53.
   * Null when the event is recorded, but its balance could not be read just now (I9).
   */
  new_microdollars_used: number | bigint | null;
}

/** A batch answers per event: one bad event never fails its neighbours. */
export type BatchResult<Result = RecordResult> =
  | Result
  | { id: string | null; status: 'rejected'; error: Error };

export interface ExaUsage {
  id?: string | null;
  kilo_user_id: string;
  organization_id?: string | null;
  /** Microdollars. */
  cost: number;
  path: string;
  created_at?: string | Date | null;
}
