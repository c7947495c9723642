/**
 * The only file that needs OpenTelemetry's SDK, with those beside it that it imports. Loaded when
 * something is exported; the build puts it and the SDK into one file, so that nobody installs it.
 */
import { randomUUID } from 'node:crypto';
import { DiagLogLevel, diag } from '@opentelemetry/api';
import { OTLPMetricExporter as JsonMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtobufMetricExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as JsonTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider } from '@opentelemetry/sdk-trace-base';
import type { Registry } from 'prom-client';
import type { Log } from '../../log.js';
import { createTelemetryMetrics } from '../metrics.js';
import type { Protocol, TelemetrySettings } from '../settings.js';
import type { Telemetry } from '../telemetry.js';
import { BoundedSpans } from './boundedSpans.js';
import { RegistryProducer } from './registryProducer.js';

/** For what is queued to leave when the process ends; a collector that is away holds nobody up. */
const SHUTDOWN_MS = 2_000;

export function openOtlp(settings: TelemetrySettings, version: string, log: Log): Telemetry {
  tellOfSdk(log);
  const resource = resourceFromAttributes({
    'service.name': 'microdollar',
    'service.version': version,
    'service.instance.id': randomUUID(),
  }).merge(detectResources({ detectors: [envDetector] }));
  const metrics = createTelemetryMetrics();
  const tracers =
    settings.traces === null
      ? null
      : new BasicTracerProvider({
          resource,
          spanProcessors: [
            new BoundedSpans(traceExporter(settings.traces), (outcome, spans) =>
              metrics.spans.inc({ outcome }, spans),
            ),
          ],
        });
  let meters: MeterProvider | null = null;
  return {
    tracer: tracers?.getTracer('microdollar', version) ?? null,
    continuesTraces: settings.continuesTraces,
    registry: metrics.registry,
    exportMetrics(read: () => Registry) {
      if (settings.metrics === null || meters !== null) return;
      const reader = new PeriodicExportingMetricReader({
        exporter: metricExporter(settings.metrics),
        exportIntervalMillis: settings.metricIntervalMs,
        exportTimeoutMillis: settings.metricTimeoutMs,
        metricProducers: [new RegistryProducer(read, version)],
      });
      meters = new MeterProvider({ resource, readers: [reader] });
    },
    async flush() {
      await Promise.all([tracers?.forceFlush(), meters?.forceFlush()]);
    },
    async close() {
      const ends = [withinTime(tracers?.shutdown()), withinTime(meters?.shutdown())];
      const haveEnded = await Promise.all(ends);
      diag.disable();
      return haveEnded.every(Boolean);
    },
  };
}

function traceExporter(protocol: Protocol) {
  return protocol === 'http/json' ? new JsonTraceExporter() : new ProtobufTraceExporter();
}

function metricExporter(protocol: Protocol) {
  return protocol === 'http/json' ? new JsonMetricExporter() : new ProtobufMetricExporter();
}

/** What the SDK has to say goes to our log: a collector that refuses, a variable that is wrong. */
function tellOfSdk(log: Log): void {
  const warn = (message: string) => log.warn({ from: 'opentelemetry' }, message);
  const quiet = () => {};
  diag.setLogger(
    { error: warn, warn, info: quiet, debug: quiet, verbose: quiet },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
}

/** Whether it ended, well or not, in time. What could not be sent is lost, and nothing else. */
async function withinTime(work: Promise<void> = Promise.resolve()): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), SHUTDOWN_MS);
  });
  const ended = work.then(
    () => true,
    () => true,
  );
  const isEnded = await Promise.race([ended, limit]);
  clearTimeout(timer);
  return isEnded;
}
