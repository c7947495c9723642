import type { Context } from '@opentelemetry/api';
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type Span,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base';

/** What became of a span. `dropped`: more ended than could be sent. */
export type SpanOutcome = 'exported' | 'failed' | 'dropped';

const DEFAULT_QUEUE = 2_048;
const SUCCESS = 0;
const SAMPLED = 1;

/**
 * Spans are sent in batches, behind the work: a collector that is slow or away costs a bounded queue
 * and the spans beyond it, never a request. The SDK drops in silence; here each drop is counted.
 */
export class BoundedSpans implements SpanProcessor {
  readonly #batches: BatchSpanProcessor;
  readonly #count: (outcome: SpanOutcome, spans: number) => void;
  readonly #maxQueue: number;
  #queued = 0;

  constructor(exporter: SpanExporter, count: (outcome: SpanOutcome, spans: number) => void) {
    this.#count = count;
    const maxQueue = Number(process.env.OTEL_BSP_MAX_QUEUE_SIZE);
    this.#maxQueue = maxQueue >= 1 ? Math.floor(maxQueue) : DEFAULT_QUEUE;
    const counted: SpanExporter = {
      export: (spans, done) => {
        this.#queued -= spans.length;
        exporter.export(spans, (result) => {
          count(result.code === SUCCESS ? 'exported' : 'failed', spans.length);
          done(result);
        });
      },
      shutdown: () => exporter.shutdown(),
      forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    };
    this.#batches = new BatchSpanProcessor(counted, { maxQueueSize: this.#maxQueue });
  }

  onStart(span: Span, parent: Context): void {
    this.#batches.onStart(span, parent);
  }

  onEnd(span: ReadableSpan): void {
    if ((span.spanContext().traceFlags & SAMPLED) === 0) return;
    if (this.#queued >= this.#maxQueue) {
      this.#count('dropped', 1);
      return;
    }
    this.#queued++;
    this.#batches.onEnd(span);
  }

  forceFlush(): Promise<void> {
    return this.#batches.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#batches.shutdown();
  }
}
