import { type HrTime, ValueType } from '@opentelemetry/api';
import { emptyResource } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  type CollectionResult,
  DataPointType,
  type MetricData,
  type MetricProducer,
} from '@opentelemetry/sdk-metrics';
import type { Registry } from 'prom-client';
import { unitOf } from '../units.js';

type PrometheusMetric = Awaited<ReturnType<Registry['getMetricsAsJSON']>>[number];
type Value = PrometheusMetric['values'][number] & { metricName?: string };

/** The same metrics as `/metrics`, under the same names and labels: one source, two ways out. */
export class RegistryProducer implements MetricProducer {
  readonly #read: () => Registry;
  readonly #version: string;
  readonly #startedAt: HrTime;

  /** @param read the registry as it is scraped, its gauges brought up to date */
  constructor(read: () => Registry, version: string) {
    this.#read = read;
    this.#version = version;
    this.#startedAt = toHrTime(performance.timeOrigin);
  }

  async collect(): Promise<CollectionResult> {
    const metrics = (await this.#read().getMetricsAsJSON()) as PrometheusMetric[];
    const times = { startTime: this.#startedAt, endTime: toHrTime(Date.now()) };
    return {
      // The reader keeps the resource of its own provider.
      resourceMetrics: {
        resource: emptyResource(),
        scopeMetrics: [
          {
            scope: { name: 'microdollar', version: this.#version },
            metrics: metrics.flatMap((metric) => toMetricData(metric, times) ?? []),
          },
        ],
      },
      errors: [],
    };
  }
}

interface Times {
  startTime: HrTime;
  endTime: HrTime;
}

function toMetricData(metric: PrometheusMetric, times: Times): MetricData | null {
  const { name, help } = metric;
  const values = metric.values as Value[];
  const common = {
    descriptor: { name, description: help, unit: unitOf(name), valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  const type = String(metric.type);
  if (type === 'histogram') {
    const dataPoints = toHistograms(name, values).map((point) => ({ ...times, ...point }));
    if (dataPoints.length === 0) return null;
    return { ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }
  if (type !== 'counter' && type !== 'gauge') return null;
  const dataPoints = values
    // What has never been measured is not told, rather than told as NaN.
    .filter(({ value }) => !Number.isNaN(value))
    .map(({ value, labels }) => ({ ...times, attributes: toAttributes(labels), value }));
  if (dataPoints.length === 0) return null;
  return type === 'counter'
    ? { ...common, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints }
    : { ...common, dataPointType: DataPointType.GAUGE, dataPoints };
}

interface Histogram {
  attributes: Record<string, string>;
  value: {
    buckets: { boundaries: number[]; counts: number[] };
    sum: number;
    count: number;
  };
}

/** Cumulative counts by upper bound, as Prometheus has them, to counts of each bucket. */
function toHistograms(name: string, values: readonly Value[]): Histogram[] {
  const points = new Map<string, Histogram & { cumulative: number }>();
  for (const { metricName, labels, value } of values) {
    const { le, ...others } = labels as Record<string, string | number>;
    const attributes = toAttributes(others);
    const key = JSON.stringify(attributes);
    const point = points.get(key) ?? {
      attributes,
      value: { buckets: { boundaries: [], counts: [] }, sum: 0, count: 0 },
      cumulative: 0,
    };
    points.set(key, point);
    if (metricName === `${name}_sum`) point.value.sum = value;
    else if (metricName === `${name}_count`) point.value.count = value;
    else {
      const { boundaries, counts } = point.value.buckets;
      if (le !== '+Inf') boundaries.push(Number(le));
      counts.push(value - point.cumulative);
      point.cumulative = value;
    }
  }
  return [...points.values()].map(({ attributes, value }) => ({ attributes, value }));
}

function toAttributes(labels: Partial<Record<string, string | number>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, String(value)]));
}

function toHrTime(ms: number): HrTime {
  return [Math.floor(ms / 1_000), Math.round((ms % 1_000) * 1e6)];
}
