/** What of the standard variables decides whether and how something is exported. */
export interface TelemetrySettings {
  /** Null: no spans are made. */
  traces: Protocol | null;
  /** Null: metrics are at `/metrics` alone. */
  metrics: Protocol | null;
  /** A caller's `traceparent` is continued. */
  continuesTraces: boolean;
  metricIntervalMs: number;
  metricTimeoutMs: number;
  /**
   * What is set and cannot be followed, each with its remedy. Told at the start and never a reason not
   * to serve: these variables are often set for many programs at once.
   */
  warnings: string[];
}

const PROTOCOLS = ['http/protobuf', 'http/json'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

const DEFAULT_METRIC_INTERVAL_MS = 60_000;
const DEFAULT_METRIC_TIMEOUT_MS = 30_000;
const MAX_INTERVAL_MS = 86_400_000;

const OFF: TelemetrySettings = {
  traces: null,
  metrics: null,
  continuesTraces: false,
  metricIntervalMs: DEFAULT_METRIC_INTERVAL_MS,
  metricTimeoutMs: DEFAULT_METRIC_TIMEOUT_MS,
  warnings: [],
};

type Signal = 'TRACES' | 'METRICS';

/**
 * Reads the standard `OTEL_*` variables (docs/telemetry.md). Unlike an SDK's default, nothing is
 * exported unless an exporter or an endpoint is named. Never throws.
 */
export function readTelemetrySettings(env: NodeJS.ProcessEnv): TelemetrySettings {
  if (read(env, 'OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return { ...OFF, warnings: [] };
  const warnings: string[] = [];
  const traces = readSignal(env, 'TRACES', warnings);
  const metrics = readSignal(env, 'METRICS', warnings);
  const propagators = (read(env, 'OTEL_PROPAGATORS') ?? 'tracecontext').split(',');
  const metricIntervalMs = readMs(
    env,
    'OTEL_METRIC_EXPORT_INTERVAL',
    DEFAULT_METRIC_INTERVAL_MS,
    warnings,
  );
  const timeoutMs = readMs(env, 'OTEL_METRIC_EXPORT_TIMEOUT', DEFAULT_METRIC_TIMEOUT_MS, warnings);
  return {
    traces,
    metrics,
    continuesTraces: propagators.some((name) => name.trim() === 'tracecontext'),
    metricIntervalMs,
    metricTimeoutMs: Math.min(timeoutMs, metricIntervalMs),
    warnings,
  };
}

function readSignal(env: NodeJS.ProcessEnv, signal: Signal, warnings: string[]): Protocol | null {
  const chosen = read(env, `OTEL_${signal}_EXPORTER`);
  const own = `OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`;
  const endpointName = read(env, own) === null ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : own;
  const endpoint = read(env, endpointName);
  if (chosen === null && endpoint === null) return null;
  if (chosen !== null) {
    const exporters = chosen.split(',').map((name) => name.trim());
    const unknown = exporters.filter((name) => !['otlp', 'none'].includes(name));
    // Whoever asks for Prometheus has it: `/metrics` is always there.
    for (const name of unknown.filter((each) => !(signal === 'METRICS' && each === 'prometheus'))) {
      warnings.push(`OTEL_${signal}_EXPORTER: ${name} is not known here; use otlp or none`);
    }
    if (!exporters.includes('otlp') || exporters.includes('none')) return null;
  }
  if (endpoint !== null && !isHttpUrl(endpoint)) {
    warnings.push(
      `${endpointName} must be an http or https URL like http://127.0.0.1:4318; ` +
        `no ${signal.toLowerCase()} are exported`,
    );
    return null;
  }
  return readProtocol(env, signal, warnings);
}

function readProtocol(env: NodeJS.ProcessEnv, signal: Signal, warnings: string[]): Protocol | null {
  const own = `OTEL_EXPORTER_OTLP_${signal}_PROTOCOL`;
  const name = read(env, own) === null ? 'OTEL_EXPORTER_OTLP_PROTOCOL' : own;
  const value = read(env, name) ?? PROTOCOLS[0];
  const known = PROTOCOLS.find((protocol) => protocol === value);
  if (known !== undefined) return known;
  warnings.push(
    `${name}: ${value} is not spoken here; use http/protobuf or http/json (port 4318 of a collector); ` +
      `no ${signal.toLowerCase()} are exported`,
  );
  return null;
}

function readMs(
  env: NodeJS.ProcessEnv,
  name: string,
  otherwise: number,
  warnings: string[],
): number {
  const value = read(env, name);
  if (value === null) return otherwise;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) : 0;
  if (ms >= 1 && ms <= MAX_INTERVAL_MS) return ms;
  warnings.push(`${name} must be a whole number of milliseconds; ${otherwise} is taken`);
  return otherwise;
}

function isHttpUrl(value: string): boolean {
  return URL.canParse(value) && /^https?:$/.test(new URL(value).protocol);
}

/** Empty is the same as not set. */
function read(env: NodeJS.ProcessEnv, name: string): string | null {
  const value = env[name]?.trim();
  return value === undefined || value === '' ? null : value;
}
