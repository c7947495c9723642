import type { Metrics } from '../../metrics.js';

const SAMPLE_EVERY_MS = 5_000;
/** Ten minutes. */
const MAX_SAMPLES = 121;

/** Counters of this process as they stood at an instant. */
interface Sample {
  atMs: number;
  /** Of `performance.now()`: how long ago it was, whatever the system's time does. */
  takenMs: number;
  events: number;
  settledRows: number;
  /** Cumulative counts of `recordLatency`, by upper bound in seconds; the last is infinity. */
  buckets: readonly { upTo: number; count: number }[];
}

/** What happened between two samples. */
export interface LivePoint {
  /** ISO 8601; the end of the interval. */
  at: string;
  eventsPerSecond: number;
  settledRowsPerSecond: number;
  /** Write latency, ms, from the call to its durable answer; null when nothing was written. */
  p50Ms: number | null;
  p95Ms: number | null;
  p99Ms: number | null;
}

export interface LiveSeries {
  /** Oldest first. */
  points: LivePoint[];
  sampleEveryMs: number;
}

/** Samples the write path in the background, so that a page opened later sees what came before. */
export class LiveSampler {
  readonly #metrics: Metrics;
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;
  #sampling: Promise<void>;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    this.#sampling = this.#sample();
    this.#timer = setInterval(() => {
      this.#sampling = this.#sample();
    }, SAMPLE_EVERY_MS);
    this.#timer.unref();
  }

  /** The intervals so far, and the one that is under way once it is a second long. */
  async read(): Promise<LiveSeries> {
    await this.#sampling;
    const now = await takeSample(this.#metrics);
    const last = this.#samples.at(-1);
    const samples =
      last !== undefined && now.takenMs - last.takenMs >= 1_000
        ? [...this.#samples, now]
        : this.#samples;
    const points = samples.slice(1).flatMap((sample, index) => {
      const before = samples[index];
      return before === undefined ? [] : [toPoint(before, sample)];
    });
    return { points, sampleEveryMs: SAMPLE_EVERY_MS };
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #sample(): Promise<void> {
    this.#samples.push(await takeSample(this.#metrics));
    if (this.#samples.length > MAX_SAMPLES) this.#samples.shift();
  }
}

async function takeSample(metrics: Metrics): Promise<Sample> {
  const [events, folded, latency] = await Promise.all([
    metrics.events.get(),
    metrics.folded.get(),
    metrics.recordLatency.get(),
  ]);
  const buckets = latency.values
    .filter(({ metricName }) => metricName?.endsWith('_bucket'))
    .map(({ labels, value }) => ({
      upTo: labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le),
      count: value,
    }));
  return {
    atMs: Date.now(),
    takenMs: performance.now(),
    events: sumOf(events.values),
    settledRows: sumOf(folded.values),
    buckets,
  };
}

function sumOf(values: readonly { value: number }[]): number {
  return values.reduce((sum, { value }) => sum + value, 0);
}

function toPoint(before: Sample, after: Sample): LivePoint {
  const seconds = Math.max(after.takenMs - before.takenMs, 1) / 1_000;
  const buckets = after.buckets.map(({ upTo, count }, index) => ({
    upTo,
    count: count - (before.buckets[index]?.count ?? 0),
  }));
  return {
    at: new Date(after.atMs).toISOString(),
    eventsPerSecond: (after.events - before.events) / seconds,
    settledRowsPerSecond: (after.settledRows - before.settledRows) / seconds,
    p50Ms: percentileMs(buckets, 0.5),
    p95Ms: percentileMs(buckets, 0.95),
    p99Ms: percentileMs(buckets, 0.99),
  };
}

/**
 * By linear interpolation within its bucket, as Prometheus' histogram_quantile does; in the last
 * bucket its lower bound.
 */
export function percentileMs(
  buckets: readonly { upTo: number; count: number }[],
  quantile: number,
): number | null {
  const total = buckets.at(-1)?.count ?? 0;
  if (total <= 0) return null;
  const rank = quantile * total;
  let lower = { upTo: 0, count: 0 };
  for (const bucket of buckets) {
    if (bucket.count >= rank) {
      if (!Number.isFinite(bucket.upTo)) return lower.upTo * 1_000;
      const share = (rank - lower.count) / Math.max(bucket.count - lower.count, 1);
      return (lower.upTo + (bucket.upTo - lower.upTo) * share) * 1_000;
    }
    lower = bucket;
  }
  return null;
}
