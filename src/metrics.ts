import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Seconds, from 0.5 ms to 10 s. */
const LATENCY_BUCKETS_SECONDS = [
  0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10,
];

export type Metrics = ReturnType<typeof createMetrics>;

/** Every metric of a ledger, in a registry of its own, so that two ledgers in one process differ. */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    events: new Counter({
      name: 'microdollar_events_total',
      help:
        'Calls by kind and outcome: usage, exa (recorded, duplicate, rejected); hold, extend (granted, ' +
        'refused, duplicate, rejected); release (released, settled, duplicate, rejected)',
      labelNames: ['kind', 'outcome'] as const,
      registers,
    }),
    rejections: new Counter({
      name: 'microdollar_rejections_total',
      help: 'Rejected usage events by error code',
      labelNames: ['code'] as const,
      registers,
    }),
    nulBytesRemoved: new Counter({
      name: 'microdollar_nul_bytes_removed_total',
      help: 'NUL bytes removed from text fields of events',
      registers,
    }),
    retries: new Counter({
      name: 'microdollar_retries_total',
      help: 'Statements sent again, by SQLSTATE or connection error code',
      labelNames: ['cause'] as const,
      registers,
    }),
    groupCommitSize: new Histogram({
      name: 'microdollar_group_commit_events',
      help: 'Events per write statement',
      buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500],
      registers,
    }),
    recordLatency: new Histogram({
      name: 'microdollar_record_duration_seconds',
      help: 'From the call to its durable answer',
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    }),
    readLatency: new Histogram({
      name: 'microdollar_read_duration_seconds',
      help: 'Reports by name and the source that answered',
      labelNames: ['query', 'source'] as const,
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    }),
    poolWaits: new Counter({
      name: 'microdollar_pool_waits_total',
      help: 'Times a caller found no idle database connection',
      registers,
    }),
    poolWaiting: new Gauge({
      name: 'microdollar_pool_waiting',
      help: 'Callers waiting for a database connection now',
      registers,
    }),
    pendingDepth: new Gauge({
      name: 'microdollar_pending_rows',
      help: 'Rows that this process wrote and has not seen settled',
      registers,
    }),
    pendingAge: new Gauge({
      name: 'microdollar_pending_oldest_age_seconds',
      help: 'How long the oldest of them has been unsettled',
      registers,
    }),
    folded: new Counter({
      name: 'microdollar_folded_rows_total',
      help: 'Rows of the log settled into their counter rows',
      registers,
    }),
    shadowComparisons: new Counter({
      name: 'microdollar_shadow_comparisons_total',
      help: 'Reads compared with the other source: equal, mismatch, over_budget',
      labelNames: ['outcome'] as const,
      registers,
    }),
    readMode: new Gauge({
      name: 'microdollar_read_mode',
      help: '1 for the mode that reads use now (raw, shadow, rollup)',
      labelNames: ['mode'] as const,
      registers,
    }),
    readModeFallbacks: new Counter({
      name: 'microdollar_read_mode_fallbacks_total',
      help: 'Times reads fell back from the rollup to raw usage by themselves',
      registers,
    }),
    readModePollErrors: new Counter({
      name: 'microdollar_read_mode_poll_errors_total',
      help: 'Polls of the read mode that failed; the last mode stays',
      registers,
    }),
    leaseAge: new Gauge({
      name: 'microdollar_verified_lease_age_seconds',
      help: 'Age of the older verification of today and yesterday; NaN = never',
      registers,
    }),
    unprovenDays: new Gauge({
      name: 'microdollar_unproven_days',
      help: 'Days of the three-month window whose rollup is not proven, so that reads use raw usage',
      registers,
    }),
    archiveHorizon: new Gauge({
      name: 'microdollar_archive_horizon_timestamp_seconds',
      help: 'Raw usage before this instant is in files; NaN = none was ever archived',
      registers,
    }),
    driftKeys: new Gauge({
      name: 'microdollar_drift_keys',
      help: 'Counter rows that differed from raw usage at their last check, by rollup',
      labelNames: ['rollup'] as const,
      registers,
    }),
    driftMicrodollars: new Gauge({
      name: 'microdollar_drift_microdollars',
      help: 'Sum of absolute differences found by the last checks, by rollup',
      labelNames: ['rollup'] as const,
      registers,
    }),
    verifiedRows: new Counter({
      name: 'microdollar_verified_rows_total',
      help: 'Raw rows compared by the background verification',
      registers,
    }),
    alertsRaised: new Counter({
      name: 'microdollar_alerts_raised_total',
      help: 'Thresholds that were crossed, by this process',
      registers,
    }),
    alertDeliveries: new Counter({
      name: 'microdollar_alert_deliveries_total',
      help: 'Tries to deliver alerts by result: delivered, failed (to be tried again), dead',
      labelNames: ['result'] as const,
      registers,
    }),
    alertOutbox: new Gauge({
      name: 'microdollar_alert_outbox_deliveries',
      help: 'Deliveries that wait for their first or next try, of everybody',
      registers,
    }),
    alertOutboxAge: new Gauge({
      name: 'microdollar_alert_outbox_oldest_age_seconds',
      help: 'How long the oldest of them has waited',
      registers,
    }),
    alertDeadLetters: new Gauge({
      name: 'microdollar_alert_dead_letters',
      help: 'Deliveries that were given up and not replayed, of everybody',
      registers,
    }),
    backgroundErrors: new Counter({
      name: 'microdollar_background_errors_total',
      help: 'Rounds of background work that failed and will be tried again, by task',
      labelNames: ['task'] as const,
      registers,
    }),
  };
}
