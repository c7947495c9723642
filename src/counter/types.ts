export interface FoldReport {
  /** Pending rows drained. */
  drained: number;
  /** Pending rows left because someone else holds their counter row. */
  remaining: number;
}

export interface PendingStatus {
  /** Rows. */
  depth: number;
  /** Age of the oldest pending row, ms; 0 when there is none. */
  oldestAgeMs: number;
}
