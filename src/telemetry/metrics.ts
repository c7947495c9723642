import { Counter, Registry } from 'prom-client';

/** Of telemetry itself; there only where spans are exported. */
export function createTelemetryMetrics() {
  const registry = new Registry();
  return {
    registry,
    spans: new Counter({
      name: 'microdollar_telemetry_spans_total',
      help:
        'Spans by what became of them: exported, failed (the collector did not take them), dropped ' +
        '(the queue was full); there only where spans are exported',
      labelNames: ['outcome'] as const,
      registers: [registry],
    }),
  };
}
