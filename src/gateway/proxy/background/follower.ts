import type { FastifyBaseLogger } from 'fastify';
import { TtlCache } from '../../../accounts/ttlCache.js';
import type { Span } from '../../../tracing.js';
import type { OpenResponse, ResponseFollowing } from '../../durable/types.js';
import { MAX_WORK_MS } from '../../metering/index.js';
import { PayloadReader, READER_DEFECT, type UsageReading } from '../../processUsage/index.js';
import type { Exchange } from '../exchange.js';
import type { GatewayContext } from '../gatewayContext.js';
import type { MeteredAnswer } from '../metering.js';
import type { RelayOutcome } from '../relayTypes.js';
import type { Upstream } from '../upstreams.js';
import { type MeteredExchange, toUsageEvent } from '../usageEvent.js';
import { toExchange, toFollowed } from './toFollowed.js';

export interface FollowerOptions {
  /** Between two looks for responses that are due. Default 2,000 ms. */
  intervalMs?: number;
}

const INTERVAL_MS = 2_000;
const LOOK_TIMEOUT_MS = 30_000;
/** OpenAI forgets a response that is not stored ten minutes after its end. */
const MAX_DELAY_SECONDS = 30;
/** A provider that does not know its own response, yet or any more. */
const LOOKS_UNTIL_GONE = 5;
const MAX_AGE_MS = 24 * 3_600_000;
/** How long after its process died a stream is taken up by another; renewed while it goes on. */
const STREAMING_LEASE_SECONDS = 120;
const FORGET_EVERY_MS = 3_600_000;
const MAX_KNOWN = 20_000;

/** Of a request of this process, whose trace its usage is in; null: of another. */
type FollowedExchange = MeteredExchange & { parent: Span | null };

/** What a look found. */
type Found =
  | { is: 'ended'; reading: UsageReading }
  | { is: 'running' }
  | { is: 'missing' }
  | { is: 'unreachable'; reason: string };

/**
 * Follows responses that providers make in the background until they have ended, and records their
 * usage. What is followed is in the database: whoever serves after a restart goes on.
 */
export class Follower {
  readonly #context: GatewayContext;
  readonly #following: ResponseFollowing;
  readonly #log: FastifyBaseLogger;
  /** Of this process's own requests: what the database does not keep. */
  readonly #exchanges = new TtlCache<FollowedExchange>(MAX_KNOWN);
  readonly #stopping = new AbortController();
  /** Being streamed here: for others to follow only should this process die. */
  readonly #streaming = new Set<string>();
  /** Before the first renewal a stream has the lease that it began with. */
  #renewedAt = performance.now();
  #timer: NodeJS.Timeout | null = null;
  #round: Promise<void> | null = null;
  #forgottenAt = -FORGET_EVERY_MS;

  constructor(
    context: GatewayContext,
    following: ResponseFollowing,
    log: FastifyBaseLogger,
    { intervalMs = INTERVAL_MS }: FollowerOptions = {},
  ) {
    this.#context = context;
    this.#following = following;
    this.#log = log;
    this.#timer = setInterval(() => this.#look(), intervalMs).unref();
  }

  /**
   * A stream has named its response and goes on. Never throws: without it, what a crash leaves is an
   * estimate.
   */
  async register(exchange: Exchange, responseId: string): Promise<void> {
    const { id } = exchange;
    if (!this.#following.isAvailable) return;
    this.#streaming.add(id);
    try {
      await this.#following.follow(toFollowed(exchange, responseId), STREAMING_LEASE_SECONDS);
    } catch (error) {
      this.#streaming.delete(id);
      this.#log.warn({ usageId: id, err: error }, 'a response in the background is not registered');
    }
  }

  /** A stream that was registered has ended, and its usage is recorded. */
  async finish(id: string): Promise<void> {
    if (!this.#streaming.delete(id)) return;
    // Should it fail, whoever looks at the response finds its usage.
    await this.#following.markSettled(id).catch(() => {});
  }

  /** Durable when it resolves. @throws LedgerError `unavailable` */
  async follow(exchange: Exchange, responseId: string): Promise<void> {
    if (this.#streaming.delete(exchange.id)) {
      // Should it fail, it is looked at when the lease ends.
      await this.#following.postpone(exchange.id, 1).catch(() => {});
    } else {
      await this.#following.follow(toFollowed(exchange, responseId));
    }
    const { id, api, payer, createdAt, arrivedAt, metadata, projectId, apiKeyId } = exchange;
    const prepared = { ...exchange.prepared, body: Buffer.alloc(0) };
    const kept = { id, api, payer, createdAt, arrivedAt, prepared, metadata, projectId, apiKeyId };
    this.#exchanges.set(id, { ...kept, parent: exchange.request.span }, MAX_AGE_MS);
  }

  /** @throws LedgerError `unavailable` */
  find(responseId: string, apiKeyId: string): Promise<OpenResponse | null> {
    return this.#following.find(responseId, apiKeyId);
  }

  /** Asks the provider now. @returns whether its usage is recorded */
  async lookAt(response: OpenResponse): Promise<boolean> {
    if (response.isSettled) return true;
    const upstream = this.#context.upstreams.named('openai', response.upstream);
    const found = upstream === null ? gone() : await this.#ask(upstream, response);
    if (found.is === 'ended') {
      await this.settle(response, found.reading);
      return true;
    }
    const ageMs = Date.now() - new Date(response.intent.created_at).getTime();
    const isGone = found.is === 'missing' && response.looks >= LOOKS_UNTIL_GONE;
    if (isGone || ageMs > MAX_AGE_MS) {
      this.#log.warn(
        { usageId: response.intent.id, upstream: response.upstream, found: found.is },
        'a response in the background has no end; its usage is an estimate',
      );
      await this.settle(response, null);
      return true;
    }
    if (found.is === 'unreachable') {
      this.#log.warn(
        { usageId: response.intent.id, upstream: response.upstream, cause: found.reason },
        'could not ask for a response in the background',
      );
    }
    const seconds = Math.min(MAX_DELAY_SECONDS, 1.5 ** response.looks);
    await this.#following.postpone(response.intent.id, seconds);
    return false;
  }

  /**
   * Records the usage of a response that has ended; again is fine (I3).
   * @param reading null = what it used cannot be known any more
   * @throws LedgerError `unavailable`
   */
  async settle(response: OpenResponse, reading: UsageReading | null): Promise<void> {
    const { sink, priceUsage, upstreams, spans } = this.#context;
    const { id } = response.intent;
    const exchange = this.#exchanges.get(id) ?? { ...toExchange(response), parent: null };
    const upstream =
      upstreams.named('openai', response.upstream) ?? upstreams.of('openai')[0] ?? null;
    if (upstream === null) return;
    if (reading?.failure !== undefined) this.#tellFailure(response, reading.failure);
    const read = reading ?? new PayloadReader(exchange.api.format).reading();
    // What was cancelled, or is gone, was made for a while, and may have been billed.
    const isCut = reading === null || reading.finishReason === 'cancelled';
    const workedUntil = Math.min(performance.now(), exchange.arrivedAt + MAX_WORK_MS);
    const answer = answerOf(read, isCut ? workedUntil : null);
    const outcome: RelayOutcome = { ...ENDED, clientLeft: isCut };
    const event = toUsageEvent(exchange, answer, outcome, priceUsage(upstream));
    // When its first token came nobody saw.
    const metadata = { ...event.metadata, latency: null, generation_time: null };
    const usage = { ...event, metadata };
    const save = () => sink.settle(usage);
    await (spans === null ? save() : spans.background(exchange, usage, save));
    this.#exchanges.set(id, exchange, 0);
    await this.#keepItems(response, read);
    await this.#following.markSettled(id);
  }

  #tellFailure({ intent }: OpenResponse, err: Error): void {
    this.#log.error({ usageId: intent.id, err }, READER_DEFECT);
  }

  /** Should it fail, nobody may refer to them. */
  async #keepItems(response: OpenResponse, { itemIds }: UsageReading): Promise<void> {
    if (itemIds.length === 0) return;
    const { intent } = response;
    this.#context.owners.rememberItems(itemIds, intent.kilo_user_id);
    const made = { ...response, item_ids: itemIds };
    await this.#following.keep(made).catch((error: Error) => {
      const details = { usageId: intent.id, reason: error.message };
      this.#log.warn(details, 'other processes do not know who made the items of a response');
    });
  }

  /** Resolves when the looks under way have ended. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#round;
  }

  #look(): void {
    if (this.#round !== null || !this.#following.isAvailable) return;
    this.#round = this.#lookAtDue()
      .catch((error: Error) => {
        this.#log.warn({ reason: error.message }, 'following responses will try again');
      })
      .finally(() => {
        this.#round = null;
      });
  }

  async #lookAtDue(): Promise<void> {
    await this.#renew();
    for (;;) {
      const due = await this.#following.claimDue();
      await Promise.all(due.map((response) => this.#lookAtOne(response)));
      if (due.length === 0 || this.#stopping.signal.aborted) break;
    }
    if (performance.now() - this.#forgottenAt < FORGET_EVERY_MS) return;
    this.#forgottenAt = performance.now();
    await this.#following.forgetOld();
  }

  async #renew(): Promise<void> {
    const sinceMs = performance.now() - this.#renewedAt;
    if (sinceMs < (STREAMING_LEASE_SECONDS * 1_000) / 4) return;
    this.#renewedAt = performance.now();
    for (const id of this.#streaming) await this.#following.postpone(id, STREAMING_LEASE_SECONDS);
  }

  async #lookAtOne(response: OpenResponse): Promise<void> {
    if (response.isSettled) await this.#following.markSettled(response.intent.id);
    else await this.lookAt(response);
  }

  async #ask(upstream: Upstream, response: OpenResponse): Promise<Found> {
    const { response_id: responseId } = response;
    try {
      const { statusCode, body } = await upstream.pool.request({
        path: upstream.toPath(`/v1/responses/${encodeURIComponent(responseId)}`),
        method: 'GET',
        headers: {
          accept: 'application/json',
          'accept-encoding': 'identity',
          ...upstream.ownHeaders,
        },
        signal: AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(LOOK_TIMEOUT_MS)]),
      });
      if (statusCode === 404 || statusCode === 410) {
        await body.dump();
        return gone();
      }
      if (statusCode !== 200) {
        await body.dump();
        return { is: 'unreachable', reason: `status ${statusCode}` };
      }
      const reader = new PayloadReader('openai-responses');
      reader.body(await body.json());
      const reading = reader.reading();
      if (hasEnded(reading)) return { is: 'ended', reading };
      if (reading.failure === undefined) return { is: 'running' };
      this.#tellFailure(response, reading.failure);
      return { is: 'unreachable', reason: 'a defect' };
    } catch (error) {
      const { code, name } = error as { code?: string; name?: string };
      return { is: 'unreachable', reason: code ?? name ?? 'error' };
    }
  }
}

/** Its status is terminal: queued or in progress says no reason. */
export function hasEnded({ finishReason, error }: UsageReading): boolean {
  return finishReason !== null || error !== null;
}

function gone(): Found {
  return { is: 'missing' };
}

const ENDED: RelayOutcome = {
  end: 'complete',
  statusCode: 200,
  error: null,
  sent: true,
  clientLeft: false,
  headAt: null,
  firstByteAt: null,
  lastByteAt: null,
};

/** @param workedUntil for an estimate by time; null = none is needed */
function answerOf(reading: UsageReading, workedUntil: number | null): MeteredAnswer {
  return {
    read: () => reading,
    firstTokenAt: workedUntil,
    upstreamId: null,
    changesLength: false,
    push: () => [],
    end: () => [],
  };
}
