import type { Tracer } from '@opentelemetry/api';
import type { Registry } from 'prom-client';
import type { Log } from '../log.js';
import { readPackageVersion } from '../packageFiles.js';
import type { TelemetrySettings } from './settings.js';

/** What exports spans and metrics of a service. */
export interface Telemetry {
  /** Null: no spans are wanted. */
  tracer: Tracer | null;
  continuesTraces: boolean;
  /** Metrics of its own. */
  registry: Registry;
  /** Exports metrics from now on, if that is asked for. */
  exportMetrics(read: () => Registry): void;
  /** Sends what is queued now; for tests. */
  flush(): Promise<void>;
  /**
   * The last of a service: what is queued is sent, for at most 2 s. Never rejects.
   * @returns false: the collector does not answer, and the SDK goes on to try for as long as
   *   `OTEL_EXPORTER_OTLP_TIMEOUT` says
   */
  close(): Promise<boolean>;
}

/**
 * Null where nothing is exported: then no file of OpenTelemetry's SDK is loaded.
 * @param log told what is set and cannot be followed
 */
export async function openTelemetry(
  settings: TelemetrySettings,
  log: Log,
): Promise<Telemetry | null> {
  for (const warning of settings.warnings) log.warn({}, warning);
  if (settings.traces === null && settings.metrics === null) return null;
  const { openOtlp } = await import('./otlp/index.js');
  return openOtlp(settings, readPackageVersion(), log);
}
