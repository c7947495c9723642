export interface DailyUsage {
  /** UTC calendar day, YYYY-MM-DD. */
  usage_date: string;
  /** Exact: a bigint past 2^53. */
  total_cost_microdollars: number | bigint;
}

export interface DailyUsageQuery {
  kilo_user_id: string;
  organization_id?: string | null;
  /** UTC days, both inclusive. */
  from: string;
  until: string;
}

/** Where an answer came from, and as of when. */
export interface AnswerSource {
  mode: 'raw' | 'rollup';
  server: 'primary' | 'replica';
  /** ISO 8601; for a replica the replay position. */
  asOf: string;
}
