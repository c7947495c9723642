import { BoundedBytes } from './boundedBytes.js';
import { type FormatReader, toReading } from './draft.js';
import { shielded } from './guarded.js';
import { type JsonObject, parseObject } from './json.js';
import { createFormatReader } from './payloadReader.js';
import { salvage } from './salvage.js';
import { decodeText, EventScanner, parseEvent } from './sse.js';
import type { UsageReader, UsageReading, WireFormat } from './types.js';

/**
 * Reads the usage from a copy of an answer, pushed in pieces of any size. `streamed` says whether
 * server-sent events are expected; a provider that answers otherwise is read all the same.
 */
export function createUsageReader(format: WireFormat, options: { streamed: boolean }): UsageReader {
  return readWith(createFormatReader(format), options);
}

/** The same in another format, whose reader is given. */
export function readWith(reader: FormatReader, options: { streamed: boolean }): UsageReader {
  return options.streamed ? new StreamUsageReader(reader) : new BodyUsageReader(reader);
}

class StreamUsageReader implements UsageReader {
  readonly #format: FormatReader;
  readonly #scanner = new EventScanner();
  readonly #partial = new BoundedBytes();
  #sawEvent = false;
  #reading: UsageReading | null = null;

  constructor(format: FormatReader) {
    this.#format = format;
  }

  get sawFirstToken(): boolean {
    return this.#format.sawFirstToken;
  }

  get messageId(): string | null {
    return this.#format.draft.messageId;
  }

  get outputBytes(): number {
    return this.#format.draft.outputBytes;
  }

  push(bytes: Uint8Array): void {
    if (this.#reading !== null) return;
    let from = 0;
    for (const end of this.#scanner.scan(bytes).ends) {
      const slice = bytes.subarray(from, end);
      from = end;
      if (this.#partial.length === 0) {
        this.#readEvent(slice, false);
      } else {
        this.#partial.add(slice);
        this.#readEvent(...this.#takePartial());
      }
    }
    this.#partial.add(bytes.subarray(from));
  }

  end(): UsageReading {
    if (this.#reading !== null) return this.#reading;
    const [rest, isCut] = this.#takePartial();
    // A last event without its blank line counts; a torn one does not.
    if (!this.#sawEvent && startsLikeJson(rest)) readBody(this.#format, rest, isCut);
    else this.#readEvent(rest, isCut, true);
    this.#reading = toReading(this.#format.draft);
    return this.#reading;
  }

  #takePartial(): [bytes: Uint8Array, isCut: boolean] {
    const { isCut } = this.#partial;
    return [this.#partial.take(), isCut];
  }

  #readEvent(bytes: Uint8Array, isCut: boolean, mayBeTorn = false): void {
    shielded(this.#format.draft, () => this.#tryEvent(bytes, isCut, mayBeTorn));
  }

  #tryEvent(bytes: Uint8Array, isCut: boolean, mayBeTorn: boolean): void {
    const event = parseEvent(bytes);
    if (event === null || event.data === '') return;
    this.#sawEvent = true;
    const payload = isCut ? salvage(event.data) : parseObject(event.data);
    if (payload !== null) this.#format.event(asError(event.name, payload), event.data);
    else if (!this.#format.plain?.(event.data) && !readLines(this.#format, event.data)) {
      if (!mayBeTorn) this.#format.draft.malformedChunks++;
    }
  }
}

class BodyUsageReader implements UsageReader {
  readonly #format: FormatReader;
  readonly #bytes = new BoundedBytes();
  readonly #start = new AnswerStart();
  #stream: StreamUsageReader | null = null;
  #reading: UsageReading | null = null;
  sawFirstToken = false;

  constructor(format: FormatReader) {
    this.#format = format;
  }

  get messageId(): string | null {
    return this.#format.draft.messageId;
  }

  push(bytes: Uint8Array): void {
    if (this.#reading !== null || bytes.length === 0) return;
    this.sawFirstToken = true;
    const wasOpen = this.#start.isEvents === null;
    const known = this.#start.push(bytes);
    if (wasOpen && this.#start.isEvents) this.#stream = new StreamUsageReader(this.#format);
    if (known === null) return;
    if (this.#stream !== null) this.#stream.push(known);
    else this.#bytes.add(known);
  }

  end(): UsageReading {
    if (this.#reading !== null) return this.#reading;
    if (this.#stream !== null) {
      this.#reading = this.#stream.end();
    } else {
      this.#bytes.add(this.#start.rest());
      const { isCut } = this.#bytes;
      readBody(this.#format, this.#bytes.take(), isCut);
      this.#reading = toReading(this.#format.draft);
    }
    return this.#reading;
  }
}

function readBody(format: FormatReader, bytes: Uint8Array, isCut: boolean): void {
  shielded(format.draft, () => tryBody(format, bytes, isCut));
}

function tryBody(format: FormatReader, bytes: Uint8Array, isCut: boolean): void {
  const text = decodeText(bytes);
  if (text.trim() === '') return;
  const payload = isCut ? salvage(text) : parseObject(text);
  if (payload === null) {
    if (!readLines(format, text)) format.draft.malformedChunks++;
    return;
  }
  format.body(payload, text);
  if (isCut) format.draft.complete = text.trimEnd().endsWith('}');
}

/**
 * Several payloads, one a line: events without the blank line between them, or lines of JSON. True
 * when there was one.
 */
function readLines(format: FormatReader, text: string): boolean {
  const lines = text.split('\n');
  if (lines.length === 1) return false;
  let isRead = false;
  for (const line of lines) {
    const payload = parseObject(line);
    if (payload !== null) format.event(payload, line);
    if (payload !== null || format.plain?.(line)) isRead = true;
  }
  return isRead;
}

/** An event named so is one, also where its payload does not say it. */
function asError(name: string | null, payload: JsonObject): JsonObject {
  if (name !== 'error' || payload.error !== undefined || payload.type !== undefined) return payload;
  return { ...payload, type: 'error', error: payload };
}

function startsLikeJson(bytes: Uint8Array): boolean {
  return /^\uFEFF?\s*[{[]/.test(decodeText(bytes.subarray(0, 64)));
}

/** Of the blank lines that may come first; past them nothing is waited for. */
const MAX_START_BYTES = 1_024;
const EVENTS = /^\uFEFF?\s*(data|event|id|retry)?:/;
/** What may become that. */
const BLANK_OR_NAME = /^[\uFEFF\uFFFD]?\s*(d(at?)?|data|e(v(en?)?)?|event|id?|r(e(tr?)?)?|retry)?$/;

/** An answer's first bytes, kept until they tell whether it is a stream of events. */
export class AnswerStart {
  /** Null: nobody knows yet. */
  isEvents: boolean | null = null;
  #kept: Uint8Array = new Uint8Array(0);

  /** What came and was not given back; null while it does not tell. */
  push(bytes: Uint8Array): Uint8Array | null {
    if (this.isEvents !== null) return bytes;
    const all = this.#kept.length === 0 ? bytes : Buffer.concat([this.#kept, bytes]);
    const start = decodeText(all.subarray(0, MAX_START_BYTES));
    if (all.length < MAX_START_BYTES && BLANK_OR_NAME.test(start)) {
      this.#kept = all;
      return null;
    }
    this.isEvents = EVENTS.test(start);
    this.#kept = new Uint8Array(0);
    return all;
  }

  /** What never told. */
  rest(): Uint8Array {
    const kept = this.#kept;
    this.#kept = new Uint8Array(0);
    return kept;
  }
}
