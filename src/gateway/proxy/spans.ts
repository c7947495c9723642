import type { UsageEvent } from '../../record/types.js';
import {
  type Attributes,
  failSpan,
  inSpan,
  type Span,
  SpanKind,
  type Tracing,
  toTraceParent,
} from '../../tracing.js';
import type { SettleResult } from '../durable/types.js';
import { isErrorStatus } from '../metering/index.js';
import type { Exchange } from './exchange.js';
import { operationOf, providerNameOf } from './genAi.js';
import type { RelayOutcome } from './relayTypes.js';
import { errorCode } from './upstreamFailure.js';

/** What spans may tell, and to whom, beyond what they always do. */
export interface TraceAllowances {
  /** The ids of the user and the organization that pay. */
  payer?: boolean;
  /** Providers get a `traceparent`. */
  upstream?: boolean;
}

/** Whose usage a span is of. */
type Billed = Pick<Exchange, 'id' | 'api' | 'payer'>;

const MAX_NAMED_MODEL = 100;

/** Spans of metered requests: admission, the provider's work, its usage. docs/telemetry.md lists them. */
export class GatewaySpans {
  readonly #tracing: Tracing;
  readonly #allow: TraceAllowances;

  constructor(tracing: Tracing, allow: TraceAllowances) {
    this.#tracing = tracing;
    this.#allow = allow;
  }

  admit(exchange: Exchange, work: () => Promise<void>): Promise<void> {
    const options = { parent: exchange.request.span, attributes: this.#common(exchange) };
    return inSpan(this.#tracing, 'microdollar.gateway.admit', options, work);
  }

  /** The provider's work begins. */
  call(exchange: Exchange): ProviderSpan {
    const { endpoint, prepared, upstream, request } = exchange;
    const operation = operationOf(endpoint);
    const model = prepared.requestedModel;
    const span = this.#tracing.start(
      [operation, ...(model === null ? [] : [model.slice(0, MAX_NAMED_MODEL)])].join(' '),
      {
        kind: SpanKind.CLIENT,
        parent: request.span,
        attributes: {
          ...this.#common(exchange),
          'gen_ai.operation.name': operation,
          'gen_ai.provider.name': providerNameOf(upstream),
          'gen_ai.request.stream': prepared.streamed,
          'server.address': upstream.host.replace(/:\d+$/, ''),
          'server.port': upstream.port,
          ...(model === null ? {} : { 'gen_ai.request.model': model }),
          ...(prepared.maxTokens === null
            ? {}
            : { 'gen_ai.request.max_tokens': prepared.maxTokens }),
        },
      },
    );
    return new ProviderSpan(span, this.#allow.upstream === true);
  }

  /** Usage on its way to where it is durable. */
  settle(exchange: Exchange, work: () => Promise<SettleResult>): Promise<SettleResult> {
    const options = { parent: exchange.request.span, attributes: this.#common(exchange) };
    return this.#settling('microdollar.gateway.settle', exchange, work, options);
  }

  /**
   * Usage of a response that a provider made in the background, once it is known: in the request's trace
   * where this process answered it, long after its spans.
   */
  background(
    exchange: Billed & { parent: Span | null },
    event: UsageEvent,
    work: () => Promise<SettleResult>,
  ): Promise<SettleResult> {
    const { parent } = exchange;
    const attributes = { ...this.#common(exchange), ...describeUsage(event) };
    return this.#settling('microdollar.gateway.background', exchange, work, { parent, attributes });
  }

  /** The statement that carries the usage is linked. */
  #settling(
    name: string,
    { id }: Billed,
    work: () => Promise<SettleResult>,
    options: { parent: Span | null; attributes: Attributes },
  ): Promise<SettleResult> {
    return inSpan(this.#tracing, name, options, async (span) => {
      const settled = await this.#tracing.linked([id], span, work);
      span?.setAttribute('microdollar.durable', settled.durable);
      return settled;
    });
  }

  #common({ id, api, payer }: Billed): Attributes {
    const attributes: Attributes = { 'microdollar.usage.id': id, 'microdollar.api': api.kind };
    if (this.#allow.payer !== true) return attributes;
    attributes['microdollar.payer.user_id'] = payer.kilo_user_id;
    if (payer.organization_id !== null) {
      attributes['microdollar.payer.organization_id'] = payer.organization_id;
    }
    return attributes;
  }
}

/** The provider's work, by the GenAI conventions, from the call to the last byte of its answer. */
export class ProviderSpan {
  readonly #span: Span;
  readonly #startedAt = performance.now();
  /** For the provider's own spans; null: it is told nothing. */
  readonly traceParent: string | null;

  constructor(span: Span, tellsUpstream: boolean) {
    this.#span = span;
    this.traceParent = tellsUpstream ? toTraceParent(span) : null;
  }

  /**
   * @param name as in `microdollar_gateway_requests_total`
   * @param event what was recorded; null: nothing, or not yet
   */
  end(outcome: RelayOutcome, name: string, event: UsageEvent | null): void {
    const span = this.#span;
    if (span.isRecording()) {
      span.setAttributes({
        'microdollar.outcome': name,
        ...this.#describeAnswer(outcome),
        ...(event === null ? {} : describeUsage(event)),
      });
      const failure = failureOf(outcome, name);
      if (failure !== null) failSpan(span, failure);
    }
    span.end(outcome.lastByteAt ?? undefined);
  }

  #describeAnswer({ statusCode, firstByteAt }: RelayOutcome): Attributes {
    if (statusCode === null) return {};
    const status = { 'http.response.status_code': statusCode };
    if (firstByteAt === null) return status;
    const seconds = (firstByteAt - this.#startedAt) / 1_000;
    return { ...status, 'gen_ai.response.time_to_first_chunk': seconds };
  }
}

/** As it was recorded: tokens by the conventions (parts of the cache are within the input), and the cost. */
function describeUsage(event: UsageEvent): Attributes {
  const { metadata } = event;
  const attributes: Attributes = { 'microdollar.cost_microdollars': event.cost };
  if (metadata?.estimated) attributes['microdollar.usage.estimated'] = metadata.estimated;
  if (metadata?.unpriced) attributes['microdollar.usage.unpriced'] = true;
  if (metadata?.status_code == null || isErrorStatus(metadata.status_code)) return attributes;
  const told = {
    'gen_ai.response.model': event.model,
    'gen_ai.response.id': metadata.message_id,
    'gen_ai.usage.input_tokens': event.input_tokens,
    'gen_ai.usage.output_tokens': event.output_tokens,
    'gen_ai.usage.cache_read.input_tokens': event.cache_hit_tokens,
    'gen_ai.usage.cache_creation.input_tokens': event.cache_write_tokens,
    'gen_ai.usage.reasoning.output_tokens': metadata.reasoning_tokens,
  };
  for (const [name, value] of Object.entries(told)) {
    if (value !== null && value !== undefined) attributes[name] = value;
  }
  if (metadata.finish_reason) {
    attributes['gen_ai.response.finish_reasons'] = [metadata.finish_reason];
  }
  return attributes;
}

/** `error.type`; null: it ended as it should, or its client left. */
function failureOf({ end, statusCode, error }: RelayOutcome, name: string): string | null {
  if (name === 'unrecorded') return name;
  if (end === 'complete') {
    return statusCode !== null && isErrorStatus(statusCode) ? String(statusCode) : null;
  }
  if (end === 'abandoned' || end === 'unsent') return null;
  return errorCode(error) ?? name;
}
