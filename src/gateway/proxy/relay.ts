import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { toClientHeaders, toStatusMessage } from './headers.js';
import {
  type Filter,
  OwnEnd,
  type RelayHooks,
  type RelayLimits,
  type RelayOutcome,
} from './relayTypes.js';

const NO_BYTES = new Uint8Array(0);

/**
 * One request to the provider, whose answer goes to the client chunk by chunk, each as it arrives,
 * with back-pressure: a slow client slows the provider, never fills memory. The end of the answer
 * waits for `settle`.
 */
export class Relay implements Dispatcher.DispatchHandler {
  readonly #reply: ServerResponse;
  readonly #hooks: RelayHooks;
  readonly #limits: RelayLimits;
  readonly #addedHeaders: Readonly<Record<string, string>>;
  readonly #done: () => void;
  readonly finished: Promise<void>;

  #pool: Dispatcher | null = null;
  #controller: Dispatcher.DispatchController | null = null;
  #filter: Filter | null = null;
  /** Of the provider's answer, until it is written. */
  #head: { statusCode: number; statusMessage: string; headers: string[] } | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isEnded = false;
  #isIdleCheckDue = false;
  #drainedBytes = 0;
  readonly #outcome: RelayOutcome = {
    end: 'failed',
    statusCode: null,
    error: null,
    sent: false,
    clientLeft: false,
    headAt: null,
    firstByteAt: null,
    lastByteAt: null,
  };

  constructor(
    reply: ServerResponse,
    addedHeaders: Readonly<Record<string, string>>,
    hooks: RelayHooks,
    limits: RelayLimits,
  ) {
    this.#reply = reply;
    this.#addedHeaders = addedHeaders;
    this.#hooks = hooks;
    this.#limits = limits;
    let done = () => {};
    this.finished = new Promise((resolve) => {
      done = resolve;
    });
    this.#done = done;
    reply.once('close', this.#onClientClose);
    // A reset while writing is the same news as its close.
    reply.on('error', () => {});
  }

  /** Call once. A client that has left already is told apart (`unsent`). */
  start(pool: Dispatcher, request: Dispatcher.DispatchOptions): void {
    if (this.#reply.destroyed) {
      this.#outcome.clientLeft = true;
      this.#finish('unsent', null);
      return;
    }
    this.#pool = pool;
    pool.dispatch(request, this);
  }

  /** Ends an exchange before the provider does; what is known by then is settled. */
  abort(reason: Error): void {
    if (this.#isEnded) return;
    const controller = this.#controller;
    // First, so that nothing that still comes is taken for a part of it.
    if (this.#filter?.isWhole) this.#finish('complete', null);
    else this.onResponseError(null, reason);
    controller?.abort(reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#isEnded) {
      controller.abort(new Error('the client left before the provider was called'));
      return;
    }
    this.#outcome.sent = true;
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    statusCode: number,
    headers: IncomingHttpHeaders,
    statusMessage?: string,
  ): void {
    if (statusCode < 200 || this.#isEnded) return;
    this.#outcome.statusCode = statusCode;
    this.#outcome.headAt = performance.now();
    this.#filter = this.#hooks.onHead(statusCode, headers);
    this.#filter.onLate?.((pieces) => this.#writeLate(controller, pieces));
    if (this.#outcome.clientLeft) return;
    const raw = controller.rawHeaders;
    this.#head = {
      statusCode,
      statusMessage: toStatusMessage(statusMessage ?? ''),
      headers: toClientHeaders(Array.isArray(raw) ? raw : [], this.#addedHeaders, {
        keepLength: !this.#filter.changesLength,
        dropEncoding: this.#filter.decodes === true,
      }),
    };
    this.#scheduleIdleCheck();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isEnded) return;
    const now = performance.now();
    this.#outcome.firstByteAt ??= now;
    this.#outcome.lastByteAt = now;
    const pieces = this.#filter?.push(chunk) ?? [];
    if (this.#outcome.clientLeft) {
      this.#drainedBytes += chunk.length;
      if (this.#drainedBytes > this.#limits.drainBytes) this.#giveUp();
      return;
    }
    this.#write(pieces);
    this.#scheduleIdleCheck();
    if (this.#reply.writableNeedDrain) this.#pause(controller);
  }

  onResponseEnd(): void {
    if (this.#isEnded) return;
    const again = this.#outcome.clientLeft ? null : (this.#hooks.again?.() ?? null);
    if (again === null) {
      this.#finish('complete', null);
      return;
    }
    this.#filter = null;
    this.#head = null;
    this.#controller = null;
    Object.assign(this.#outcome, { statusCode: null, headAt: null, firstByteAt: null });
    this.#pool?.dispatch(again, this);
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    this.#finish(error instanceof OwnEnd ? error.end : 'failed', error);
  }

  /** Written with the first bytes, so that a small answer is one packet. */
  #writeHead(): void {
    if (this.#head === null) return;
    const { statusCode, statusMessage, headers } = this.#head;
    this.#head = null;
    this.#reply.writeHead(statusCode, statusMessage, headers);
  }

  /** With a body of no bytes, for `flushHeaders` alone writes as UTF-8 what is Latin-1. */
  #flushHead(): void {
    this.#writeHead();
    this.#reply.write(NO_BYTES);
    this.#reply.flushHeaders();
  }

  #write(pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) {
      if (piece.length === 0) continue;
      this.#writeHead();
      this.#reply.write(piece);
    }
  }

  /** What a filter gives after the chunk that it came with. */
  #writeLate(controller: Dispatcher.DispatchController, pieces: readonly Uint8Array[]): void {
    if (this.#outcome.clientLeft) return;
    this.#write(pieces);
    if (this.#reply.writableNeedDrain && !this.#isEnded) this.#pause(controller);
  }

  #pause(controller: Dispatcher.DispatchController): void {
    if (controller.paused) return;
    controller.pause();
    this.#setTimer(this.#limits.stallTimeoutMs, () => this.#reply.destroy());
    this.#reply.once('drain', () => {
      this.#clearTimer();
      controller.resume();
    });
  }

  /** Sends the head, and what need not wait, unless the rest came with the same packet. */
  #scheduleIdleCheck(): void {
    const hasNothing = this.#head === null && this.#filter?.idle === undefined;
    if (this.#isIdleCheckDue || hasNothing) return;
    this.#isIdleCheckDue = true;
    setImmediate(() => {
      this.#isIdleCheckDue = false;
      if (this.#isEnded || this.#outcome.clientLeft || this.#filter?.holdsHead) return;
      this.#write(this.#filter?.idle?.() ?? []);
      if (this.#head === null) return;
      this.#flushHead();
    });
  }

  readonly #onClientClose = (): void => {
    if (this.#reply.writableFinished || this.#outcome.clientLeft) return;
    this.#outcome.clientLeft = true;
    if (this.#isEnded) return;
    if (this.#controller === null) {
      this.#finish('unsent', null);
      return;
    }
    if (this.#hooks.onClientLeft?.(this.#outcome) === 'stop') {
      this.abort(new OwnEnd('abandoned', 'the client left, so the provider was stopped'));
      return;
    }
    // Billed all the same: what it costs is in the rest of the answer.
    this.#setTimer(this.#limits.drainTimeoutMs, () => this.#giveUp());
    this.#controller.resume();
  };

  #giveUp(): void {
    const message = "the client left, and the provider's answer exceeded the limit for draining it";
    this.abort(new OwnEnd('abandoned', message));
  }

  #finish(end: RelayOutcome['end'], error: Error | null): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#clearTimer();
    this.#outcome.end = end;
    this.#outcome.error = error;
    void this.#settle().finally(this.#done);
  }

  async #settle(): Promise<void> {
    const filter = this.#filter;
    // Only where there is something to wait for: the next turn of the loop is time, too.
    if (filter?.flush !== undefined) await filter.flush();
    if (filter?.isBroken && this.#outcome.end === 'complete') {
      this.#outcome.end = 'failed';
      this.#outcome.error = new Error('the answer could not be decoded');
    }
    const held = filter?.end() ?? [];
    try {
      await this.#hooks.settle(this.#outcome);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#release(held);
  }

  /** The usage is durable: the client gets the end, or the same break that we got. */
  #release(held: readonly Uint8Array[]): void {
    const reply = this.#reply;
    if (this.#outcome.clientLeft) return;
    if (this.#outcome.end === 'complete') {
      this.#setTimer(this.#limits.stallTimeoutMs, () => reply.destroy());
      reply.once('close', () => this.#clearTimer());
      const last = held.at(-1);
      this.#write(held.slice(0, -1));
      this.#writeHead();
      reply.end(last);
      return;
    }
    const isCut = this.#outcome.end === 'cut';
    if (this.#outcome.statusCode === null || (isCut && !reply.headersSent && this.#head !== null)) {
      this.#hooks.answerFailure(this.#outcome, null);
      return;
    }
    // Of what is cut, the held end would say that it is whole.
    if (!isCut) this.#write(held);
    else if (this.#filter?.isStream && this.#hooks.farewell) this.#write([this.#hooks.farewell()]);
    this.#flushHead();
    const { error } = this.#outcome;
    if (this.#filter?.isStream && error instanceof OwnEnd && error.isOrderly) reply.end();
    else if (reply.socket === null) reply.destroy();
    else reply.socket.destroySoon();
  }

  #fail(settleError: unknown): void {
    if (this.#outcome.clientLeft) return;
    if (this.#reply.headersSent) this.#reply.destroy();
    else this.#hooks.answerFailure(this.#outcome, settleError);
  }

  #setTimer(delayMs: number, run: () => void): void {
    this.#clearTimer();
    this.#timer = setTimeout(run, delayMs);
  }

  #clearTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
