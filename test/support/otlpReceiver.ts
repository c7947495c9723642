import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

export type Value = string | number | boolean | Value[];

export interface ReceivedSpan {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string | null;
  kind: number;
  attributes: Record<string, Value>;
  links: { traceId: string; spanId: string }[];
  /** 0 unset, 2 error. */
  status: number;
  events: string[];
  startedAt: bigint;
  endedAt: bigint;
}

export interface ReceivedMetric {
  name: string;
  unit: string;
  type: 'sum' | 'gauge' | 'histogram';
  isMonotonic: boolean;
  points: {
    attributes: Record<string, Value>;
    value: number;
    /** Of a histogram; `value` is its count. */
    sum?: number;
    buckets?: number[];
    bounds?: number[];
  }[];
}

/** A collector for tests: takes OTLP as JSON over HTTP, and remembers it. */
export interface OtlpReceiver {
  url: string;
  spans: ReceivedSpan[];
  /** Of the last export. */
  metrics: Map<string, ReceivedMetric>;
  resource: Record<string, Value>;
  requests: { path: string; headers: IncomingHttpHeaders }[];
  /** All that came, as it came. */
  text(): string;
  close(): Promise<void>;
}

// biome-ignore lint/suspicious/noExplicitAny: OTLP's JSON is read by hand.
type Json = any;

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const bodies: string[] = [];
  const receiver = {
    spans: [] as ReceivedSpan[],
    metrics: new Map<string, ReceivedMetric>(),
    resource: {} as Record<string, Value>,
    requests: [] as OtlpReceiver['requests'],
  };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const isGzip = request.headers['content-encoding'] === 'gzip';
    const text = String(isGzip ? gunzipSync(bytes) : bytes);
    bodies.push(text);
    receiver.requests.push({ path: request.url ?? '', headers: request.headers });
    if (request.headers['content-type'] === 'application/json') take(JSON.parse(text));
    response.setHeader('content-type', 'application/json').end('{}');
  });

  function take({ resourceSpans = [], resourceMetrics = [] }: Json): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      receiver.resource = toRecord(resource.attributes);
      for (const { spans } of scopeSpans) receiver.spans.push(...spans.map(toSpan));
    }
    for (const { resource, scopeMetrics } of resourceMetrics) {
      receiver.resource = toRecord(resource.attributes);
      for (const { metrics } of scopeMetrics) {
        for (const metric of metrics) receiver.metrics.set(metric.name, toMetric(metric));
      }
    }
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    ...receiver,
    get resource() {
      return receiver.resource;
    },
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    text: () => bodies.join('\n'),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function toSpan(span: Json): ReceivedSpan {
  return {
    name: span.name,
    traceId: span.traceId,
    spanId: span.spanId,
    parentSpanId: span.parentSpanId || null,
    kind: span.kind,
    attributes: toRecord(span.attributes),
    links: (span.links ?? []).map(({ traceId, spanId }: Json) => ({ traceId, spanId })),
    status: span.status?.code ?? 0,
    events: (span.events ?? []).map(({ name }: Json) => name),
    startedAt: BigInt(span.startTimeUnixNano),
    endedAt: BigInt(span.endTimeUnixNano),
  };
}

function toMetric({ name, unit, sum, gauge, histogram }: Json): ReceivedMetric {
  const data = sum ?? gauge ?? histogram;
  return {
    name,
    unit,
    type: sum ? 'sum' : gauge ? 'gauge' : 'histogram',
    isMonotonic: sum?.isMonotonic ?? false,
    points: data.dataPoints.map((point: Json) => ({
      attributes: toRecord(point.attributes),
      value: Number(point.asDouble ?? point.asInt ?? point.count),
      ...(histogram
        ? {
            sum: point.sum,
            buckets: point.bucketCounts.map(Number),
            bounds: point.explicitBounds,
          }
        : {}),
    })),
  };
}

function toRecord(attributes: Json[] = []): Record<string, Value> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, toValue(value)]));
}

function toValue(value: Json): Value {
  if (value.arrayValue !== undefined) return (value.arrayValue.values ?? []).map(toValue);
  if (value.intValue !== undefined) return Number(value.intValue);
  return value.stringValue ?? value.doubleValue ?? value.boolValue;
}
