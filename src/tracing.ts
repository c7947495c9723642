import {
  type Attributes,
  createTraceState,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  type TimeInput,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { LedgerError } from './errors.js';

export { type Attributes, type Span, SpanKind };

export interface StartOptions {
  /** Default: the span begins a trace. */
  parent?: Span | null;
  /** Default internal. */
  kind?: SpanKind;
  attributes?: Attributes;
  links?: Link[];
  /** Of `performance.now()`, or an instant. Default now. */
  startTime?: TimeInput;
}

/** A round of background work that took less asked nobody, and gets no span, ms. */
const IDLE_ROUND_MS = 1;
/** Of one span; a statement may carry hundreds of events. */
const MAX_LINKS = 32;
/** Events of callers under way; past that new ones get no link. */
const MAX_CALLERS = 10_000;

/**
 * Where spans go. Parents are given by hand, never found by an asynchronous context: that costs every
 * promise of the process. Null in its place means that nobody wants spans, and nothing is done for them.
 */
export class Tracing {
  readonly #tracer: Tracer;
  /** Events that are on their way, by id: whose statement carries them is known only then. */
  readonly #callers = new Map<string, SpanContext>();

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  start(name: string, { parent, ...options }: StartOptions = {}): Span {
    const context = parent ? trace.setSpan(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
    return this.#tracer.startSpan(name, options, context);
  }

  /** The span of a host's own that is active where the library is called. */
  active(): Span | null {
    return trace.getActiveSpan() ?? null;
  }

  /** Until `work` ends, the statements that carry these events are linked to the span. */
  async linked<T>(ids: readonly unknown[], span: Span | null, work: () => Promise<T>): Promise<T> {
    if (!span?.isRecording() || this.#callers.size >= MAX_CALLERS) return await work();
    const events = ids.filter((id) => typeof id === 'string').map((id) => id.toLowerCase());
    for (const id of events) this.#callers.set(id, span.spanContext());
    try {
      return await work();
    } finally {
      for (const id of events) this.#callers.delete(id);
    }
  }

  /** To the calls that these events came from. */
  linksOf(events: readonly { id: string }[]): Link[] {
    const links: Link[] = [];
    if (this.#callers.size === 0) return links;
    for (const { id } of events) {
      const context = this.#callers.get(id);
      if (context !== undefined && links.push({ context }) === MAX_LINKS) break;
    }
    return links;
  }

  /** A round of background work, told when it is over; one that did nothing is not told. */
  round(task: string, startedAt: number, failure?: { error: unknown }): void {
    if (failure === undefined && performance.now() - startedAt < IDLE_ROUND_MS) return;
    const span = this.start(`microdollar.background ${task}`, {
      startTime: startedAt,
      attributes: { 'microdollar.task': task },
    });
    if (failure === undefined) span.end();
    else endFailed(span, failure.error);
  }
}

/** Runs work in a span of its own, which ends with it; null tells it that there is none. */
export async function inSpan<T>(
  tracing: Tracing | null,
  name: string,
  options: StartOptions,
  work: (span: Span | null) => Promise<T>,
): Promise<T> {
  if (tracing === null) return await work(null);
  const span = tracing.start(name, options);
  try {
    const result = await work(span);
    span.end();
    return result;
  } catch (error) {
    endFailed(span, error);
    throw error;
  }
}

/** Ends a span as failed. Messages of others (a database's quotes the row) are not told. */
function endFailed(span: Span, error: unknown, endTime?: TimeInput): void {
  failSpan(span, errorType(error), error instanceof LedgerError ? error.message : undefined);
  span.end(endTime);
}

/** @param type low in cardinality: a code, a status, a name */
export function failSpan(span: Span, type: string, message?: string): void {
  span.setAttribute('error.type', type);
  const told = message === undefined ? {} : { message };
  span.setStatus({ code: SpanStatusCode.ERROR, ...told });
  span.addEvent('exception', {
    'exception.type': type,
    ...(message === undefined ? {} : { 'exception.message': message }),
  });
}

function errorType(error: unknown): string {
  const { reason, code, name } = (error ?? {}) as Record<string, unknown>;
  for (const each of [reason, code, name]) if (typeof each === 'string' && each !== '') return each;
  return '_OTHER';
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const MAX_TRACESTATE_CHARACTERS = 512;

/** W3C Trace Context: the caller's span, as a parent; null for what is none. */
export function readTraceParent(traceparent: unknown, tracestate?: unknown): Span | null {
  const [, version, traceId = '', spanId = '', flags = '', more] =
    (typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent) : null) ?? [];
  // A later version may say more; this one may not.
  if (version === undefined || version === 'ff' || (version === '00' && more)) return null;
  const context: SpanContext = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16) & 1,
    isRemote: true,
  };
  if (!isSpanContextValid(context)) return null;
  if (typeof tracestate === 'string' && tracestate.length <= MAX_TRACESTATE_CHARACTERS) {
    context.traceState = createTraceState(tracestate);
  }
  return trace.wrapSpanContext(context);
}

/** For the next hop: the span alone, never what a caller added. */
export function toTraceParent(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}
