import type { IncomingHttpHeaders } from 'node:http';
import {
  createStreamGate,
  createUsageReader,
  type PreparedRequest,
  type StreamGate,
  type UsageReader,
  type UsageReading,
} from '../processUsage/index.js';
import { HoldEnd } from './holdEnd.js';
import type { Filter } from './relayTypes.js';

const EVENT_STREAM = /^text\/event-stream\b/i;

/** Reads a copy of an answer as it passes, and holds its end back. */
export interface MeteredAnswer extends Filter {
  /** Null: an error of the provider, which says nothing of usage. */
  read(): UsageReading | null;
  /** Of `performance.now()`, ms. */
  readonly firstTokenAt: number | null;
  /** The provider's name for this exchange. */
  readonly upstreamId: string | null;
}

/** The provider's answer begins. Errors are passed on unread. */
export function openAnswer(
  prepared: PreparedRequest,
  statusCode: number,
  headers: IncomingHttpHeaders,
): MeteredAnswer {
  const upstreamId = textOf(headers['x-request-id']) ?? textOf(headers['request-id']);
  if (statusCode >= 400) return new UnreadAnswer(upstreamId);
  const isStream = EVENT_STREAM.test(headers['content-type'] ?? '');
  const { format, hideUsageChunk } = prepared;
  return new ReadAnswer(
    createUsageReader(format, { streamed: isStream }),
    isStream ? new HeldStream(createStreamGate(format, { hideUsageChunk })) : new HoldEnd(),
    upstreamId,
  );
}

/** The terminal event of a stream, and what follows it, wait. */
class HeldStream implements Filter {
  readonly changesLength = true;
  readonly #gate: StreamGate;

  constructor(gate: StreamGate) {
    this.#gate = gate;
  }

  push(chunk: Buffer): readonly Uint8Array[] {
    return this.#gate.push(chunk);
  }

  end(): readonly Uint8Array[] {
    return [this.#gate.held()];
  }
}

class ReadAnswer implements MeteredAnswer {
  readonly upstreamId: string | null;
  readonly changesLength: boolean;
  firstTokenAt: number | null = null;
  readonly #reader: UsageReader;
  readonly #filter: Filter;

  constructor(reader: UsageReader, filter: Filter, upstreamId: string | null) {
    this.#reader = reader;
    this.#filter = filter;
    this.changesLength = filter.changesLength;
    this.upstreamId = upstreamId;
  }

  push(chunk: Buffer): readonly Uint8Array[] {
    this.#reader.push(chunk);
    if (this.firstTokenAt === null && this.#reader.sawFirstToken) {
      this.firstTokenAt = performance.now();
    }
    return this.#filter.push(chunk);
  }

  idle(): readonly Uint8Array[] {
    return this.#filter.idle?.() ?? [];
  }

  end(): readonly Uint8Array[] {
    return this.#filter.end();
  }

  read(): UsageReading {
    return this.#reader.end();
  }
}

class UnreadAnswer extends HoldEnd implements MeteredAnswer {
  readonly firstTokenAt = null;
  readonly upstreamId: string | null;

  constructor(upstreamId: string | null) {
    super();
    this.upstreamId = upstreamId;
  }

  read(): null {
    return null;
  }
}

function textOf(value: string | string[] | undefined): string | null {
  return typeof value === 'string' && value !== '' ? value.slice(0, 1024) : null;
}
