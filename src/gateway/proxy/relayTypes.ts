import type { IncomingHttpHeaders } from 'node:http';

/** What passes and what waits for the usage to be durable. */
export interface Filter {
  /** The bytes that may go to the client now. */
  push(chunk: Buffer): readonly Uint8Array[];
  /** Nothing has come for a moment: more bytes that may go. */
  idle?(): readonly Uint8Array[];
  /** After the last chunk, or where the provider's answer broke off: what was held. */
  end(): readonly Uint8Array[];
  /** Bytes may be taken out, so the provider's `content-length` does not hold. */
  readonly changesLength: boolean;
}

/** How an exchange with the provider ended. Instants are of `performance.now()`, ms. */
export interface RelayOutcome {
  /**
   * `complete`: the whole answer came. `failed`: no answer, or it broke off. `abandoned`: the
   * client had left, and the answer was longer than is waited for. `unsent`: the client had left
   * before the provider was called.
   */
  end: 'complete' | 'failed' | 'abandoned' | 'unsent';
  /** Of the provider; null when it sent none. */
  statusCode: number | null;
  error: Error | null;
  /** The request went to the provider, so it may have been billed. */
  sent: boolean;
  clientLeft: boolean;
  headAt: number | null;
  firstByteAt: number | null;
  lastByteAt: number | null;
}

export interface RelayHooks {
  /** The provider's answer begins. */
  onHead(statusCode: number, headers: IncomingHttpHeaders): Filter;
  /** Resolves when the usage is durable. A rejection cuts the client's connection. */
  settle(outcome: RelayOutcome): Promise<void>;
  /** The client waits, and the provider sent nothing, or `settle` rejected in time. */
  answerFailure(outcome: RelayOutcome, settleError: unknown): void;
}

export interface RelayLimits {
  /** After the client left: time and bytes for which the provider's answer is still read. */
  drainTimeoutMs: number;
  drainBytes: number;
  /** A client that takes nothing for this long has left. */
  stallTimeoutMs: number;
}

/** Of our own making: the client left, and the answer is longer than is waited for. */
export class DrainLimitError extends Error {
  constructor() {
    super("the client left, and the provider's answer exceeded the limit for draining it");
    this.name = 'DrainLimitError';
  }
}
