import type { IncomingHttpHeaders } from 'node:http';
import { isErrorStatus } from '../metering/index.js';
import {
  AnswerStart,
  createSideGate,
  createSideReader,
  createStreamGate,
  createUsageReader,
  isEventStream,
  type PreparedRequest,
  readCostHeader,
  type SideFormat,
  type StreamGate,
  type UsageReader,
  type UsageReading,
} from '../processUsage/index.js';
import { CopiedAnswer, DecodedAnswer } from './compressedAnswer.js';
import { canDecode, readCodings } from './decoder.js';
import { HoldEnd } from './holdEnd.js';
import type { Filter } from './relayTypes.js';

/** In which providers say at which tier they answered: `x-gemini-`, `x-amzn-bedrock-service-tier`. */
const TIER_HEADER = /(^|-)service-tier$/;
/** Of an error's body; a longer one passes as it comes. */
const MAX_ERROR_BYTES = 64 * 1024;

/** Reads a copy of an answer as it passes, and holds its end back. */
export interface MeteredAnswer extends Filter {
  /** Null: an error of the provider, which says nothing of usage. Call it after `flush`. */
  read(): UsageReading | null;
  /** Of `performance.now()`, ms. */
  readonly firstTokenAt: number | null;
  /** The provider's name for this exchange. */
  readonly upstreamId: string | null;
  /** An error's body, where it was asked for. */
  errorBody?(): Buffer | null;
}

/** How an answer is read. */
export interface AnswerFormat {
  prepared: PreparedRequest;
  side: SideFormat | null;
  /** Header in which the provider says what a whole answer cost; null = none. */
  costHeader?: string | null;
  /** Told once what the provider calls a streamed answer. */
  onNamed?: ((messageId: string) => void) | undefined;
  /** Told how much a stream has generated, bytes, as it grows. */
  onOutput?: ((outputBytes: number) => void) | undefined;
}

/** The provider's answer begins. Errors are passed on unread. */
export function openAnswer(
  { prepared, side, costHeader = null, onNamed, onOutput }: AnswerFormat,
  statusCode: number,
  headers: IncomingHttpHeaders,
): MeteredAnswer {
  const upstreamId = textOf(headers['x-request-id']) ?? textOf(headers['request-id']);
  if (isErrorStatus(statusCode)) return new UnreadAnswer(upstreamId, prepared.hideUsageChunk);
  const streamed = isEventStream(headers['content-type']);
  const { format, hideUsageChunk } = prepared;
  const reader =
    side === null ? createUsageReader(format, { streamed }) : createSideReader(side, { streamed });
  const codings = readCodings(headers['content-encoding']);
  // Bytes that are taken out must be seen: then the client gets the answer decoded.
  const isSeen = codings.length === 0 || (hideUsageChunk && canDecode(codings));
  const isEvents = streamed && isSeen;
  // Some servers do not say that it is a stream, or say that it is JSON.
  const mayBeEvents =
    hideUsageChunk && !streamed && codings.length === 0 && !('content-length' in headers);
  const gate =
    side === null || side === 'completions'
      ? createStreamGate(format, { hideUsageChunk })
      : createSideGate();
  const held = isEvents ? new HeldStream(gate) : new HoldEnd();
  const answer = new ReadAnswer(
    reader,
    mayBeEvents ? new ByItsStart(new HeldStream(gate), held) : held,
    upstreamId,
    {
      // A stream's headers leave before anybody knows.
      costUsd: costHeader === null || streamed ? null : readCostHeader(headers[costHeader]),
      serviceTier: readTier(headers),
      onNamed,
      onOutput: streamed ? onOutput : undefined,
    },
  );
  if (codings.length === 0) return answer;
  return isEvents ? new DecodedAnswer(answer, codings) : new CopiedAnswer(answer, codings);
}

/** The terminal event of a stream, and what follows it, wait. */
class HeldStream implements Filter {
  readonly changesLength = true;
  readonly isStream = true;
  readonly #gate: StreamGate;

  constructor(gate: StreamGate) {
    this.#gate = gate;
  }

  get isWhole(): boolean {
    return this.#gate.sawTerminal;
  }

  push(chunk: Buffer): readonly Uint8Array[] {
    return this.#gate.push(chunk);
  }

  end(): readonly Uint8Array[] {
    return [this.#gate.held()];
  }
}

/** Held as a stream, or as a whole, by how it begins. Of no length: bytes may be taken out. */
class ByItsStart implements Filter {
  readonly changesLength = true;
  readonly #stream: Filter;
  readonly #whole: Filter;
  readonly #start = new AnswerStart();
  #chosen: Filter | null = null;

  constructor(stream: Filter, whole: Filter) {
    this.#stream = stream;
    this.#whole = whole;
  }

  get isWhole(): boolean {
    return this.#chosen?.isWhole ?? false;
  }

  push(chunk: Buffer): readonly Uint8Array[] {
    const known = this.#start.push(chunk);
    if (known === null) return [];
    this.#chosen ??= this.#start.isEvents ? this.#stream : this.#whole;
    return this.#chosen.push(Buffer.from(known.buffer, known.byteOffset, known.length));
  }

  idle(): readonly Uint8Array[] {
    return this.#chosen?.idle?.() ?? [];
  }

  end(): readonly Uint8Array[] {
    return this.#chosen?.end() ?? [this.#start.rest()];
  }
}

/** What headers say of an answer; its body comes first. */
interface SaidByHeaders {
  costUsd: string | null;
  serviceTier: string | null;
}

/** Read as it passes. */
export class ReadAnswer implements MeteredAnswer {
  readonly upstreamId: string | null;
  readonly changesLength: boolean;
  readonly isStream: boolean;
  firstTokenAt: number | null = null;
  readonly filter: Filter;
  readonly idle?: () => readonly Uint8Array[];
  readonly #reader: UsageReader;
  readonly #said: SaidByHeaders;
  readonly #onOutput: AnswerFormat['onOutput'];
  #onNamed: AnswerFormat['onNamed'];

  constructor(
    reader: UsageReader,
    filter: Filter,
    upstreamId: string | null,
    { onNamed, onOutput, ...said }: SaidByHeaders & Pick<AnswerFormat, 'onNamed' | 'onOutput'>,
  ) {
    this.#reader = reader;
    this.#said = said;
    this.#onNamed = onNamed;
    this.#onOutput = onOutput;
    this.filter = filter;
    if (filter.idle !== undefined) this.idle = () => filter.idle?.() ?? [];
    this.changesLength = filter.changesLength;
    this.isStream = filter.isStream ?? false;
    this.upstreamId = upstreamId;
  }

  get isWhole(): boolean {
    return this.filter.isWhole ?? false;
  }

  /** Into the reader alone. */
  take(chunk: Buffer): void {
    this.#reader.push(chunk);
    if (this.firstTokenAt === null && this.#reader.sawFirstToken) {
      this.firstTokenAt = performance.now();
    }
    this.#onOutput?.(this.#reader.outputBytes ?? 0);
    const { messageId } = this.#reader;
    if (this.#onNamed === undefined || messageId === null) return;
    this.#onNamed(messageId);
    this.#onNamed = undefined;
  }

  push(chunk: Buffer): readonly Uint8Array[] {
    this.take(chunk);
    return this.filter.push(chunk);
  }

  end(): readonly Uint8Array[] {
    return this.filter.end();
  }

  /** Of two reports of a cost the larger counts. */
  read(): UsageReading {
    const reading = this.#reader.end();
    const serviceTier = reading.serviceTier ?? this.#said.serviceTier;
    const { costUsd } = this.#said;
    const isMore = costUsd !== null && Number(costUsd) > Number(reading.costUsd ?? 0);
    return { ...reading, serviceTier, ...(isMore ? { costUsd } : {}) };
  }
}

class UnreadAnswer extends HoldEnd implements MeteredAnswer {
  readonly firstTokenAt = null;
  readonly upstreamId: string | null;
  /** Null: it passes. */
  #kept: Buffer[] | null;
  #keptBytes = 0;

  constructor(upstreamId: string | null, keepsBody: boolean) {
    super();
    this.upstreamId = upstreamId;
    this.#kept = keepsBody ? [] : null;
  }

  get holdsHead(): boolean {
    return this.#kept !== null;
  }

  override push(chunk: Buffer): readonly Uint8Array[] {
    if (this.#kept === null) return super.push(chunk);
    this.#kept.push(chunk);
    this.#keptBytes += chunk.length;
    if (this.#keptBytes <= MAX_ERROR_BYTES) return [];
    const kept = Buffer.concat(this.#kept);
    this.#kept = null;
    return super.push(kept);
  }

  override idle(): readonly Uint8Array[] {
    return this.#kept === null ? super.idle() : [];
  }

  override end(): readonly Uint8Array[] {
    return this.#kept === null ? super.end() : this.#kept;
  }

  errorBody(): Buffer | null {
    return this.#kept && Buffer.concat(this.#kept);
  }

  read(): null {
    return null;
  }
}

function readTier(headers: IncomingHttpHeaders): string | null {
  for (const name in headers) {
    if (TIER_HEADER.test(name)) return textOf(headers[name])?.slice(0, 64) ?? null;
  }
  return null;
}

function textOf(value: string | string[] | undefined): string | null {
  return typeof value === 'string' && value !== '' ? value.slice(0, 1024) : null;
}
