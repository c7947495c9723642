import type { Span } from '@opentelemetry/api';
import { BasicTracerProvider, type SpanExporter } from '@opentelemetry/sdk-trace-base';
import { describe, expect, it } from 'vitest';
import { providerNameOf } from '../../src/gateway/proxy/genAi.js';
import { BoundedSpans } from '../../src/telemetry/otlp/boundedSpans.js';
import { readTelemetrySettings } from '../../src/telemetry/settings.js';
import { unitOf } from '../../src/telemetry/units.js';

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };

describe('the standard variables', () => {
  it.each([
    ['nothing is set', {}, null, null],
    ['an endpoint', ENDPOINT, 'http/protobuf', 'http/protobuf'],
    [
      'an endpoint of traces',
      { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://c' },
      'http/protobuf',
      null,
    ],
    ['an exporter without an endpoint', { OTEL_TRACES_EXPORTER: 'otlp' }, 'http/protobuf', null],
    ['none of one signal', { ...ENDPOINT, OTEL_METRICS_EXPORTER: 'none' }, 'http/protobuf', null],
    ['JSON', { ...ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }, 'http/json', 'http/json'],
    [
      'JSON of one signal',
      { ...ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'http/json' },
      'http/protobuf',
      'http/json',
    ],
    ['the SDK is disabled', { ...ENDPOINT, OTEL_SDK_DISABLED: 'true' }, null, null],
    [
      'the SDK is not disabled',
      { ...ENDPOINT, OTEL_SDK_DISABLED: 'false' },
      'http/protobuf',
      'http/protobuf',
    ],
    ['empty', { OTEL_EXPORTER_OTLP_ENDPOINT: '', OTEL_TRACES_EXPORTER: ' ' }, null, null],
    ['Prometheus, which is there anyway', { OTEL_METRICS_EXPORTER: 'prometheus' }, null, null],
  ])('%s', (_, env, traces, metrics) => {
    expect(readTelemetrySettings(env)).toMatchObject({ traces, metrics, warnings: [] });
  });

  it.each([
    [
      { ...ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
      /OTEL_EXPORTER_OTLP_PROTOCOL: grpc .*http\/protobuf/,
    ],
    [{ OTEL_TRACES_EXPORTER: 'zipkin' }, /OTEL_TRACES_EXPORTER: zipkin .*otlp or none/],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' },
      /OTEL_EXPORTER_OTLP_ENDPOINT must be an http/,
    ],
  ])('what cannot be followed is told with its remedy, and nothing is sent: %j', (env, warning) => {
    const { traces, metrics, warnings } = readTelemetrySettings(env);
    expect({ traces, metrics }).toEqual({ traces: null, metrics: null });
    expect(warnings[0]).toMatch(warning);
  });

  it('bound the interval of metrics, and what one export may take', () => {
    expect(
      readTelemetrySettings({ ...ENDPOINT, OTEL_METRIC_EXPORT_INTERVAL: '5000' }),
    ).toMatchObject({ metricIntervalMs: 5_000, metricTimeoutMs: 5_000 });
    const { metricIntervalMs, warnings } = readTelemetrySettings({
      ...ENDPOINT,
      OTEL_METRIC_EXPORT_INTERVAL: 'often',
    });
    expect(metricIntervalMs).toBe(60_000);
    expect(warnings[0]).toMatch(/OTEL_METRIC_EXPORT_INTERVAL must be a whole number/);
  });

  it('say whether the traces of callers are continued', () => {
    expect(readTelemetrySettings(ENDPOINT).continuesTraces).toBe(true);
    expect(readTelemetrySettings({ ...ENDPOINT, OTEL_PROPAGATORS: 'none' }).continuesTraces).toBe(
      false,
    );
  });
});

describe('spans that a collector does not take', () => {
  it('are counted, each once, and never more than the queue is kept', async () => {
    const counts = { exported: 0, failed: 0, dropped: 0 };
    const waiting: { spans: number; done: (isTaken: boolean) => void }[] = [];
    const slow: SpanExporter = {
      export: (spans, done) =>
        void waiting.push({
          spans: spans.length,
          done: (isTaken) => done({ code: isTaken ? 0 : 1 }),
        }),
      shutdown: async () => {},
    };
    const before = process.env.OTEL_BSP_MAX_QUEUE_SIZE;
    process.env.OTEL_BSP_MAX_QUEUE_SIZE = '10';
    const spans = new BoundedSpans(slow, (outcome, count) => {
      counts[outcome] += count;
    });
    if (before === undefined) delete process.env.OTEL_BSP_MAX_QUEUE_SIZE;
    else process.env.OTEL_BSP_MAX_QUEUE_SIZE = before;
    const tracer = new BasicTracerProvider({ spanProcessors: [spans] }).getTracer('test');
    const end = (count: number) => {
      for (let made = 0; made < count; made++) (tracer.startSpan('work') as Span).end();
    };
    // Ten leave at once, ten wait behind them, and the queue is full.
    end(25);
    const flushing = spans.forceFlush().catch(() => {});
    await expect.poll(() => waiting.length).toBe(2);
    expect(counts).toEqual({ exported: 0, failed: 0, dropped: 5 });
    end(25);
    waiting[0]?.done(true);
    waiting[1]?.done(false);
    await flushing;
    const ending = spans.shutdown().catch(() => {});
    await expect.poll(() => waiting.length).toBe(3);
    waiting[2]?.done(true);
    await ending;
    expect(waiting.map((each) => each.spans)).toEqual([10, 10, 10]);
    expect(counts).toEqual({ exported: 20, failed: 10, dropped: 20 });
  });
});

describe('names', () => {
  it.each([
    ['api.openai.com', 'openai'],
    ['eu.api.openai.com:443', 'openai'],
    ['ours.openai.azure.com', 'azure.ai.openai'],
    ['bedrock-runtime.us-east-1.amazonaws.com', 'aws.bedrock'],
    ['us-central1-aiplatform.googleapis.com', 'gcp.vertex_ai'],
    ['api.x.ai', 'x_ai'],
    ['relax.ai', 'mine'],
    ['openrouter.ai', 'mine'],
    ['127.0.0.1:9', 'mine'],
  ])('of the provider at %s: %s', (host, name) => {
    expect(providerNameOf({ host, name: 'mine' })).toBe(name);
  });

  it.each([
    ['microdollar_record_duration_seconds', 's'],
    ['microdollar_journal_bytes', 'By'],
    ['microdollar_gateway_cost_microdollars_total', '{microdollar}'],
    ['microdollar_events_total', '1'],
  ])('of the unit of %s: %s', (name, unit) => expect(unitOf(name)).toBe(unit));
});
