import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { UsageSinkStatus } from './types.js';

/** Seconds, from 0.5 ms to 10 s. */
const LATENCY_BUCKETS_SECONDS = [
  0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10,
];

export type DurableMetrics = ReturnType<typeof createDurableMetrics>;

/** Gauges read `status` when they are scraped. */
export function createDurableMetrics(
  registry: Registry,
  status: () => UsageSinkStatus & { openIntents: number },
) {
  const registers = [registry];
  const gauge = (name: string, help: string, read: (now: ReturnType<typeof status>) => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read(status()));
      },
    });
  gauge(
    'microdollar_journal_records',
    'Records in the local journal that are not in the database yet',
    (now) => now.depthRecords,
  );
  gauge('microdollar_journal_bytes', 'Size of the local journal', (now) => now.bytes);
  gauge(
    'microdollar_journal_oldest_age_seconds',
    'Age of the oldest record in the local journal',
    (now) => now.oldestAgeMs / 1000,
  );
  gauge(
    'microdollar_journal_full',
    '1 = the local journal takes no new requests; they are refused while the database is away',
    (now) => Number(now.full),
  );
  gauge('microdollar_journal_failed', '1 = the local journal cannot be written', (now) =>
    Number(now.journalFailure !== null),
  );
  gauge(
    'microdollar_dead_letters',
    'Events that the database refused for good and nobody has resolved',
    (now) => now.deadLetters,
  );
  gauge(
    'microdollar_gateway_database_available',
    '1 = usage goes to the database; 0 = to the local journal',
    (now) => Number(now.databaseAvailable),
  );
  gauge(
    'microdollar_gateway_open_intents',
    'Requests let through whose usage is not durable yet',
    (now) => now.openIntents,
  );
  return {
    beginDuration: new Histogram({
      name: 'microdollar_gateway_begin_duration_seconds',
      help: 'Until an intent was durable, by where (database, journal)',
      labelNames: ['durable'] as const,
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    }),
    settleDuration: new Histogram({
      name: 'microdollar_gateway_settle_duration_seconds',
      help: 'Until usage was durable, by where (database, journal, dead_letter)',
      labelNames: ['durable'] as const,
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    }),
    refused: new Counter({
      name: 'microdollar_gateway_refused_total',
      help: 'Requests refused because neither database nor journal took their intent',
      registers,
    }),
    unsaved: new Counter({
      name: 'microdollar_gateway_unsaved_usage_total',
      help: 'Usage that nothing could take; its intent is settled as an estimate later',
      registers,
    }),
    journalSync: new Histogram({
      name: 'microdollar_journal_sync_duration_seconds',
      help: 'Write and fsync of one group of journal records',
      buckets: LATENCY_BUCKETS_SECONDS,
      registers,
    }),
    drained: new Counter({
      name: 'microdollar_journal_drained_records_total',
      help: 'Journal records brought into the database',
      registers,
    }),
    drainErrors: new Counter({
      name: 'microdollar_journal_drain_errors_total',
      help: 'Drains that failed and will be tried again',
      registers,
    }),
    tornTails: new Counter({
      name: 'microdollar_journal_torn_tails_total',
      help: 'Unfinished writes cut off when a journal was opened after a crash',
      registers,
    }),
    lostRecords: new Counter({
      name: 'microdollar_journal_lost_records_total',
      help: 'Acknowledged journal records lost to damage of the disk',
      registers,
    }),
    deadLettered: new Counter({
      name: 'microdollar_dead_lettered_total',
      help: 'Events moved to the dead letters, by error code',
      labelNames: ['reason'] as const,
      registers,
    }),
    estimated: new Counter({
      name: 'microdollar_gateway_estimated_intents_total',
      help: 'Intents without usage settled as an estimate, by whether they could be priced',
      labelNames: ['priced'] as const,
      registers,
    }),
    lostResponses: new Counter({
      name: 'microdollar_gateway_lost_responses_total',
      help: 'Responses in the background that a crash left without a name, settled as an estimate',
      registers,
    }),
    corrected: new Counter({
      name: 'microdollar_gateway_corrected_estimates_total',
      help: 'Estimates corrected by usage that came after all',
      registers,
    }),
  };
}
