import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';

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
  /** What is passed on is decoded: the provider's `content-encoding` does not hold. */
  readonly decodes?: boolean;
  /** Where bytes come out later than they went in: they are given here. Called once, at first. */
  onLate?(write: (pieces: readonly Uint8Array[]) => void): void;
  /** Resolves when all that went in has come out; before `end`. */
  flush?(): Promise<void>;
  /** After `flush`: bytes that could not be decoded are missing from what came out. */
  readonly isBroken?: boolean;
  /** Nothing of the answer may go yet, not even its head. */
  readonly holdsHead?: boolean;
  /** The answer is whole, though its connection is still open. */
  readonly isWhole?: boolean;
  /** Events: what the client can be told amid it. */
  readonly isStream?: boolean;
}

/** How an exchange with the provider ended. Instants are of `performance.now()`, ms. */
export interface RelayOutcome {
  /**
   * `complete`: the whole answer came. `failed`: no answer, or it broke off. `abandoned`: the
   * client had left, and the provider was stopped. `unsent`: the client had left before the
   * provider was called. `cut`: by us, at shutdown.
   */
  end: 'complete' | 'failed' | 'abandoned' | 'unsent' | 'cut';
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
  /** After a whole answer, of which the client has seen nothing: a request to send in its place. */
  again?(): Dispatcher.DispatchOptions | null;
  /** The client left while the provider works: whether it is stopped, or read to its end. */
  onClientLeft?(outcome: Readonly<RelayOutcome>): 'stop' | 'drain';
  /** Resolves when the usage is durable. A rejection cuts the client's connection. */
  settle(outcome: RelayOutcome): Promise<void>;
  /** The client waits, and the provider sent nothing, or `settle` rejected in time. */
  answerFailure(outcome: RelayOutcome, settleError: unknown): void;
  /** Of a stream that is cut by us: its last event. */
  farewell?(): Uint8Array;
}

export interface RelayLimits {
  /** After the client left: time and bytes for which the provider's answer is still read. */
  drainTimeoutMs: number;
  drainBytes: number;
  /** A client that takes nothing for this long has left. */
  stallTimeoutMs: number;
}

/** Of our own making: why we end an exchange. */
export class OwnEnd extends Error {
  readonly end: 'abandoned' | 'cut';
  /** A stream's last event says all: its connection ends as that of any other. */
  readonly isOrderly: boolean;

  constructor(end: OwnEnd['end'], message: string, { isOrderly = false } = {}) {
    super(message);
    this.name = 'OwnEnd';
    this.end = end;
    this.isOrderly = isOrderly;
  }
}
