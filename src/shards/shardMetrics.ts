import { AggregatorRegistry, Gauge, Registry } from 'prom-client';
import { createMetrics, type Metrics } from '../metrics.js';
import type { Shard } from './shard.js';

/** Of what reached no shard; the rest is counted where it was done. */
const OWN = [
  'microdollar_events_total',
  'microdollar_rejections_total',
  'microdollar_background_errors_total',
];

/**
 * The metrics of every shard with the label `shard`, so that none is counted with another, and which shards
 * are open. What was refused before it reached a shard has no such label.
 */
class ShardRegistry extends Registry {
  readonly #shards: readonly Shard[];
  readonly #own: Registry;

  constructor(shards: readonly Shard[], own: Registry) {
    super();
    this.#shards = shards;
    this.#own = own;
  }

  override async getMetricsAsJSON() {
    return await (await this.#merged()).getMetricsAsJSON();
  }

  override async metrics(): Promise<string> {
    return await (await this.#merged()).metrics();
  }

  override async getSingleMetricAsString(name: string): Promise<string> {
    return await (await this.#merged()).getSingleMetricAsString(name);
  }

  /** Series of one metric that differ in their shard stay apart. */
  async #merged(): Promise<Registry> {
    const parts = this.#shards.flatMap(({ name, ledger }) => {
      if (ledger === null) return [];
      const { registry } = ledger.metrics;
      registry.setDefaultLabels({ shard: name });
      return [registry.getMetricsAsJSON()];
    });
    const whole = [super.getMetricsAsJSON(), this.#own.getMetricsAsJSON(), ...parts];
    return AggregatorRegistry.aggregate(await Promise.all(whole));
  }
}

export function createShardMetrics(shards: readonly Shard[]): Metrics {
  const metrics = createMetrics();
  const own = new Registry();
  for (const name of OWN) {
    const metric = metrics.registry.getSingleMetric(name);
    if (metric !== undefined) own.registerMetric(metric);
  }
  const registry = new ShardRegistry(shards, own);
  new Gauge({
    name: 'microdollar_shard_open',
    help: '1 once this process has reached the shard; 0: it is away, and its payers wait',
    labelNames: ['shard'] as const,
    registers: [registry],
    collect() {
      for (const { name, ledger } of shards) this.set({ shard: name }, ledger === null ? 0 : 1);
    },
  });
  return { ...metrics, registry };
}
