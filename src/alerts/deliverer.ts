import type { Query } from '../db/query.js';
import type { LookupAll } from './address.js';
import { pauseAfterMs } from './backOff.js';
import {
  BURY_STATEMENT,
  type ClaimedRow,
  claimStatement,
  deliveredStatement,
  failedStatement,
  givenBackStatement,
  OUTBOX_STATEMENT,
  type OutboxRow,
} from './deliveries.sql.js';
import { toBody } from './payload.js';
import { isSuccess, type Sent, sendWebhook } from './send.js';
import { webhookHeaders } from './signature.js';

/** At once in this process; of them to webhooks whose last try failed; to one webhook. */
const MAX_AT_ONCE = 16;
const MAX_FAILING_AT_ONCE = 8;
const MAX_PER_WEBHOOK = 4;
export const SEND_TIMEOUT_MS = 10_000;
const STOP_MS = 3_000;

export type DeliveryResult = 'delivered' | 'failed' | 'dead';

export interface DelivererOptions {
  query: Query;
  lookup: LookupAll;
  allowsPrivate: boolean;
  timeoutMs?: number;
  /** What is under way when the process stops gets so long. Default 3,000 ms. */
  stopMs?: number;
  onResult: (result: DeliveryResult, count: number) => void;
  /** What became of a try could not be written: it is repeated after its lease. */
  onError: (error: unknown) => void;
}

/**
 * Sends what the outbox has. Any number of processes do: a delivery is claimed, in a transaction of its
 * own, before it is sent, and no transaction is open while it is.
 */
export class Deliverer {
  readonly #options: DelivererOptions;
  readonly #inFlight = new Map<Promise<void>, { isFailing: boolean }>();
  readonly #stopping = new AbortController();

  constructor(options: DelivererOptions) {
    this.#options = options;
  }

  /** Claims as many as there is room for, and begins to send them. @returns how many */
  async begin(): Promise<number> {
    const failing = [...this.#inFlight.values()].filter((each) => each.isFailing).length;
    const free = MAX_AT_ONCE - this.#inFlight.size;
    if (free === 0 || this.#stopping.signal.aborted) return 0;
    const claimed = await this.#options.query<ClaimedRow>(
      claimStatement({
        free,
        freeForFailing: Math.min(free, MAX_FAILING_AT_ONCE - failing),
        perWebhook: MAX_PER_WEBHOOK,
      }),
    );
    for (const row of claimed) {
      const sending = this.#deliver(row).catch(this.#options.onError);
      this.#inFlight.set(sending, { isFailing: row.is_failing });
      void sending.then(() => this.#inFlight.delete(sending));
    }
    return claimed.length;
  }

  /** Sends what is due now, until nothing is. */
  async drain(): Promise<void> {
    while ((await this.begin()) > 0) await this.settled();
  }

  /** What is under way has ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#inFlight.keys());
  }

  /** Deliveries of webhooks that take none any more, and how full the outbox is. */
  async look(): Promise<OutboxRow> {
    const buried = await this.#options.query(BURY_STATEMENT);
    if (buried.length > 0) this.#options.onResult('dead', buried.length);
    const [row] = await this.#options.query<OutboxRow>(OUTBOX_STATEMENT);
    return row ?? { pending: '0', dead: '0', oldest_age_seconds: 0 };
  }

  /** Lets what is under way end for a moment; what has not is given back. */
  async stop(): Promise<void> {
    const cut = setTimeout(() => this.#stopping.abort(), this.#options.stopMs ?? STOP_MS);
    await this.settled();
    clearTimeout(cut);
    this.#stopping.abort();
  }

  async #deliver(row: ClaimedRow): Promise<void> {
    const { query, lookup, allowsPrivate, onResult } = this.#options;
    const body = toBody(row);
    const secrets = [row.secret, ...(row.previous_secret === null ? [] : [row.previous_secret])];
    const headers = webhookHeaders(row.event_id, Date.now(), body, secrets);
    const sent = await sendWebhook(row.url, headers, body, {
      lookup,
      allowsPrivate,
      timeoutMs: this.#options.timeoutMs ?? SEND_TIMEOUT_MS,
      signal: this.#stopping.signal,
    });
    if (isSuccess(sent.status)) {
      await query(deliveredStatement(row.id, sent.status));
      onResult('delivered', 1);
      return;
    }
    if (sent.status === null && this.#stopping.signal.aborted) {
      await query(givenBackStatement(row.id, row.attempts));
      return;
    }
    await this.#fail(row, sent);
  }

  async #fail(row: ClaimedRow, { status, error, retryAfterMs }: Sent): Promise<void> {
    const isGone = status === 410;
    const ownMs = isGone ? null : pauseAfterMs(row.attempts);
    const pauseMs = ownMs === null ? null : Math.max(ownMs, retryAfterMs ?? 0);
    const failed = { id: row.id, attempts: row.attempts, status, error, pauseMs, isGone };
    const dead = await this.#options.query(failedStatement(failed));
    this.#options.onResult(dead.length > 0 ? 'dead' : 'failed', 1);
  }
}
