import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import type { UsageEvent } from '../../record/types.js';
import type { SettleResult } from '../durable/types.js';
import { READER_DEFECT } from '../processUsage/index.js';
import { hasEnded } from './background/follower.js';
import type { Exchange } from './exchange.js';
import { toLastEvent } from './farewell.js';
import type { GatewayContext } from './gatewayContext.js';
import { toUpstreamHeaders } from './headers.js';
import { type MeteredAnswer, openAnswer } from './metering.js';
import { chooseOnAbort } from './onAbort.js';
import { countUsage, nameOutcome } from './outcomes.js';
import { Refusal, toRefusal } from './refusal.js';
import { Relay } from './relay.js';
import { type Filter, OwnEnd, type RelayHooks, type RelayOutcome } from './relayTypes.js';
import { sendRefusal } from './replies.js';
import type { ProviderSpan } from './spans.js';
import { StreamAllowance } from './streamAllowance.js';
import { mayRefuseStreamOptions } from './streamOptions.js';
import { toSearch } from './target.js';
import { errorCode, toUpstreamRefusal } from './upstreamFailure.js';
import { toUsageEvent } from './usageEvent.js';

/** `finish_reason` of what we cut, so that nobody takes it for the client's or the provider's doing. */
const CUT_BY_SHUTDOWN = 'gateway_shutdown';
const CUT_BY_BUDGET = 'budget_exceeded';

/** The places that a request takes among those of its payer. */
export interface Places {
  /** The client left: its place is free for the next request. */
  leave(): void;
  /** One of the places for what is only read to its end; null = none is free. */
  drain(): (() => void) | null;
}

/** One request to the provider, its answer to the client, and its usage into the ledger. */
export class MeteredRelay implements RelayHooks {
  readonly #context: GatewayContext;
  readonly #exchange: Exchange;
  readonly #places: Places;
  readonly #relay: Relay;
  #answer: MeteredAnswer | null = null;
  #statusCode = 0;
  /** The client's own bytes were sent after a refusal of `stream_options`. */
  #isSecondTry = false;
  #leaveDrain: (() => void) | null = null;
  /** Why it is cut, where that is not a shutdown: nothing is left of what it is paid from. */
  #exhausted: Refusal | null = null;
  /** Of a stream, so far. */
  #outputBytes = 0;
  /** Null: nobody wants spans. */
  #span: ProviderSpan | null = null;
  /** The response in the background that is being streamed is made known to others. */
  #registered: Promise<void> | null = null;

  constructor(context: GatewayContext, exchange: Exchange, places: Places) {
    this.#context = context;
    this.#exchange = exchange;
    this.#places = places;
    this.#relay = new Relay(exchange.reply.raw, exchange.ownHeaders, this, context.limits);
  }

  /** Resolves when the usage is durable and the answer handed over. */
  async run(): Promise<void> {
    const { api, arrivedAt, prepared, upstream, reply } = this.#exchange;
    const { streamOptions, metrics } = this.#context;
    const { requestedModel, hideUsageChunk } = prepared;
    if (hideUsageChunk && !streamOptions.mayBeAdded(upstream, requestedModel)) {
      this.#takeOwnBytes();
    }
    reply.hijack();
    metrics.admission.observe({ api: api.kind }, (performance.now() - arrivedAt) / 1_000);
    this.#span = this.#context.spans?.call(this.#exchange) ?? null;
    this.#relay.start(upstream.pool, this.#toRequest());
    await this.#relay.finished;
    this.#leaveDrain?.();
  }

  /** At shutdown, when the time is up. */
  cut(): void {
    this.#relay.abort(new OwnEnd('cut', 'the gateway is shutting down; send the request again'));
  }

  onHead(statusCode: number, headers: IncomingHttpHeaders): Filter {
    const { prepared, endpoint, upstream } = this.#exchange;
    this.#statusCode = statusCode;
    if (this.#isSecondTry && statusCode < 400) {
      this.#context.streamOptions.noteRefused(upstream, prepared.requestedModel);
    }
    const format = {
      prepared,
      side: endpoint.side ?? null,
      costHeader: upstream.costHeader,
      onNamed: this.#toRegister(),
      onOutput: this.#toWatch(),
    };
    this.#answer = openAnswer(format, statusCode, headers);
    return this.#answer;
  }

  again(): Dispatcher.DispatchOptions | null {
    const body = this.#answer?.errorBody?.() ?? null;
    const { request, id, upstream } = this.#exchange;
    if (body === null || this.#isSecondTry) return null;
    if (!mayRefuseStreamOptions(this.#statusCode, body)) return null;
    request.log.info(
      { usageId: id, upstream: upstream.name },
      "the provider may refuse stream_options; sending the client's own bytes",
    );
    this.#isSecondTry = true;
    this.#takeOwnBytes();
    return this.#toRequest();
  }

  onClientLeft({ firstByteAt }: Readonly<RelayOutcome>): 'stop' | 'drain' {
    this.#places.leave();
    const { upstream, prepared, isBackground } = this.#exchange;
    // The provider goes on by itself; what it is making has a name from the first event on.
    if (isBackground && firstByteAt !== null) return 'stop';
    if (chooseOnAbort(upstream, this.#context.onAbort, prepared) === 'stop') return 'stop';
    this.#leaveDrain = this.#places.drain();
    return this.#leaveDrain === null ? 'stop' : 'drain';
  }

  /** @throws LedgerError `unavailable`: nothing could take the usage */
  async settle(outcome: RelayOutcome): Promise<void> {
    const { sink, metrics, owners, follower, reservations } = this.#context;
    const { id, api, request, prepared, endpoint } = this.#exchange;
    let event: UsageEvent | null = null;
    let name = this.#isCutByBudget(outcome) ? 'cut_by_budget' : nameOutcome(outcome);
    await this.#registered;
    try {
      if (outcome.end === 'unsent') {
        reservations?.release(this.#exchange);
        await sink.abandon(id);
      } else if (await this.#follow()) {
        name = 'background';
      } else {
        event = this.#atHold(this.#toEvent(outcome));
        this.#tellFailure();
        const { message_id: responseId } = event.metadata ?? {};
        const isKept = responseId && prepared.keepsResponse && endpoint.path === '/v1/responses';
        const itemIds = isKept ? (this.#answer?.read()?.itemIds ?? []) : [];
        const kept = isKept ? owners.keep(responseId, itemIds, this.#exchange) : null;
        await this.#save(event);
        if (this.#registered !== null) await follower?.finish(id);
        countUsage(metrics, this.#exchange, event, outcome);
        reservations?.noteUsage(this.#exchange, event, this.#outputBytes);
        await kept;
      }
      metrics.requests.inc({ api: api.kind, outcome: name });
      this.#span?.end(outcome, name, event);
    } catch (error) {
      metrics.requests.inc({ api: api.kind, outcome: 'unrecorded' });
      this.#span?.end(outcome, 'unrecorded', event);
      request.log.error({ usageId: id, api: api.kind, err: error }, 'usage is not recorded');
      throw error;
    }
    if (outcome.end === 'complete' && !outcome.clientLeft) return;
    request.log.warn(
      {
        usageId: id,
        api: api.kind,
        outcome: name,
        status: outcome.statusCode,
        cause: errorCode(outcome.error) ?? outcome.error?.name,
      },
      'the exchange did not end as it should',
    );
  }

  #tellFailure(): void {
    const failure = this.#answer?.read()?.failure;
    if (failure === undefined) return;
    const { request, id, api } = this.#exchange;
    request.log.error({ usageId: id, api: api.kind, err: failure }, READER_DEFECT);
  }

  #save(event: UsageEvent): Promise<SettleResult> {
    const { sink, spans } = this.#context;
    const settle = () => sink.settle(event);
    return spans === null ? settle() : spans.settle(this.#exchange, settle);
  }

  answerFailure(outcome: RelayOutcome, settleError: unknown): void {
    const { reply, request, endpoint, id, api, ownHeaders } = this.#exchange;
    const refusal =
      settleError === null
        ? (this.#exhausted ?? toUpstreamRefusal(outcome.error))
        : toRefusal(settleError, this.#context.limits.bodyBytes);
    request.log.warn(
      { usageId: id, api: api.kind, reason: refusal.reason },
      'answered for the provider',
    );
    sendRefusal(reply.raw, refusal, endpoint.provider, ownHeaders);
  }

  farewell(): Uint8Array {
    const message = 'the gateway is shutting down and cut this answer; send the request again';
    const refusal = this.#exhausted ?? new Refusal('unavailable', message);
    return toLastEvent(this.#exchange.api, refusal);
  }

  /** What a stream generates, where what was held may be less. */
  #toWatch(): ((outputBytes: number) => void) | undefined {
    const { reservations } = this.#context;
    if (reservations === null) return undefined;
    const allowance = reservations.allowanceOf(this.#exchange);
    const watch =
      allowance &&
      new StreamAllowance(allowance, () => {
        this.#exhausted = reservations.endOutgrown(this.#exchange);
        if (this.#exhausted === null) return;
        this.#relay.abort(new OwnEnd('cut', this.#exhausted.message, { isOrderly: true }));
      });
    return (outputBytes) => {
      this.#outputBytes = outputBytes;
      watch?.see(outputBytes);
    };
  }

  #isCutByBudget({ end }: RelayOutcome): boolean {
    return end === 'cut' && this.#exhausted !== null;
  }

  /** A stream in the background may outlive this process: others must know its name. */
  #toRegister(): ((responseId: string) => void) | undefined {
    const { follower } = this.#context;
    const exchange = this.#exchange;
    if (!exchange.isBackground || !exchange.prepared.streamed || follower === null)
      return undefined;
    return (responseId) => {
      this.#registered = follower.register(exchange, responseId);
    };
  }

  /** A response in the background that has not ended: its usage comes later. */
  async #follow(): Promise<boolean> {
    const { follower } = this.#context;
    const { isBackground } = this.#exchange;
    const reading = isBackground && follower !== null ? (this.#answer?.read() ?? null) : null;
    if (reading === null || reading.messageId === null || hasEnded(reading)) return false;
    await follower?.follow(this.#exchange, reading.messageId);
    this.#context.owners.remember(reading.messageId, this.#exchange);
    return true;
  }

  #toRequest(): Dispatcher.DispatchOptions {
    const { upstream, target, token, request, prepared } = this.#exchange;
    const traceparent = this.#span?.traceParent ?? null;
    const ownHeaders =
      traceparent === null ? upstream.ownHeaders : { ...upstream.ownHeaders, traceparent };
    return {
      path: `${upstream.toPath(target.path)}${toSearch(target.query, token)}`,
      method: 'POST',
      headers: toUpstreamHeaders(request.headers, token, ownHeaders),
      body: prepared.body,
    };
  }

  #takeOwnBytes(): void {
    const exchange = this.#exchange;
    exchange.prepared = { ...exchange.prepared, body: exchange.body, hideUsageChunk: false };
  }

  /** The usage counts in the windows from which its money was taken, whatever a clock here says. */
  #atHold(event: UsageEvent): UsageEvent {
    const { reserved } = this.#exchange;
    return reserved === null ? event : { ...event, created_at: reserved.createdAt };
  }

  #toEvent(outcome: RelayOutcome): UsageEvent {
    const { priceUsage } = this.#context;
    const exchange = this.#exchange;
    const price = priceUsage(exchange.upstream);
    const { end } = outcome;
    if (end !== 'abandoned' && end !== 'cut') {
      return toUsageEvent(exchange, this.#answer, outcome, price);
    }
    // What we cut is, to the estimate, as if the client had left: what was made may be billed.
    const left = { ...outcome, clientLeft: true };
    const event = toUsageEvent(exchange, this.#answer, left, price);
    if (end === 'abandoned' || outcome.clientLeft) return event;
    const reason = this.#isCutByBudget(outcome) ? CUT_BY_BUDGET : CUT_BY_SHUTDOWN;
    const metadata = { ...event.metadata, cancelled: false, finish_reason: reason };
    return { ...event, has_error: true, metadata };
  }
}
