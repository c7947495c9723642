import { withoutNullUsage } from './addedUsage.js';
import { BoundedBytes } from './boundedBytes.js';
import { asObject, asText, objectsIn, otherError, parseObject } from './json.js';
import { RESPONSES_TERMINAL_TYPES } from './openaiResponses.js';
import { EventScanner, parseEvent } from './sse.js';
import type { StreamGate, WireFormat } from './types.js';

/** An event longer than this goes out in part before it is whole; of it, this much waits. */
const MAX_WAITING_BYTES = 1 << 20;
const TAIL_BYTES = 1 << 16;
const MAX_WAITING_PIECES = 256;
/** Held after the terminal event. A stream that goes on beyond has not ended: it passes. */
const MAX_HELD_BYTES = 1 << 22;

const USAGE = Buffer.from('"usage"');
const DONE = Buffer.from('[DONE]');

type Verdict = 'send' | 'hold' | 'drop';

interface Terminal {
  types: ReadonlySet<string>;
  /** An event that mentions none of them is none of them. */
  marks: readonly Buffer[];
}

const terminal = (types: Iterable<string>): Terminal => ({
  types: new Set(types),
  marks: Array.from(types, (type) => Buffer.from(type)),
});
const TERMINAL = {
  'anthropic-messages': terminal(['message_stop', 'error']),
  'openai-responses': terminal(RESPONSES_TERMINAL_TYPES),
} as const;

/**
 * Byte-exact: events pass unchanged, each when it is whole (a client acts on it no earlier), the
 * terminal event and all that follows it wait. With `hideUsageChunk`, a chat chunk that holds
 * usage and no choice is left out with its blank line, and `"usage":null` of the others. Memory is
 * bounded.
 */
export function createStreamGate(
  format: WireFormat,
  options: { hideUsageChunk: boolean },
): StreamGate {
  return new Gate(format, options.hideUsageChunk && format === 'openai-chat');
}

class Gate implements StreamGate {
  readonly #format: WireFormat;
  readonly #hideUsageChunk: boolean;
  readonly #scanner = new EventScanner();
  /** Of the event that is not whole yet. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  /** Start and end of an event that was too long to wait for. */
  #sentInPart: BoundedBytes | null = null;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #last: Verdict = 'send';
  sawTerminal = false;

  constructor(format: WireFormat, hideUsageChunk: boolean) {
    this.#format = format;
    this.#hideUsageChunk = hideUsageChunk;
  }

  push(bytes: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    const { continuesLast, ends } = this.#scanner.scan(bytes);
    let from = 0;
    if (continuesLast) {
      this.#dispose([bytes.subarray(0, 1)], this.#last, out);
      from = 1;
    }
    for (const end of ends) {
      this.#wait(bytes.subarray(from, end));
      from = end;
      this.#endEvent(out);
    }
    this.#wait(bytes.subarray(from));
    if (this.#waitingBytes > MAX_WAITING_BYTES) this.#sendInPart(out);
    return mergeAdjacent(out);
  }

  held(): Uint8Array {
    const rest = Buffer.concat(this.#waiting);
    const isHidden = this.#hideUsageChunk && !this.sawTerminal && isUsageChunk(rest);
    const all = Buffer.concat(isHidden ? this.#held : [...this.#held, rest]);
    this.#held = [];
    this.#waiting = [];
    return all;
  }

  #wait(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (this.#waiting.length > MAX_WAITING_PIECES) this.#waiting = [Buffer.concat(this.#waiting)];
  }

  #endEvent(out: Uint8Array[]): void {
    const parts = this.#waiting;
    const [only] = parts;
    let event: Uint8Array = parts.length === 1 && only ? only : Buffer.concat(parts);
    let passed = parts;
    if (this.#hideUsageChunk && this.#sentInPart === null) {
      const stripped = withoutNullUsage(event);
      if (stripped !== event) passed = [stripped];
    }
    if (this.#sentInPart !== null) {
      this.#sentInPart.add(event);
      event = this.#sentInPart.take();
      this.#sentInPart = null;
    }
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#dispose(passed, this.#judge(event), out);
  }

  #judge(event: Uint8Array): Verdict {
    if (this.sawTerminal) return 'hold';
    if (this.#isTerminal(event)) {
      this.sawTerminal = true;
      return 'hold';
    }
    return this.#hideUsageChunk && isUsageChunk(event) ? 'drop' : 'send';
  }

  #isTerminal(event: Uint8Array): boolean {
    const text = asBuffer(event);
    if (this.#format === 'openai-chat') {
      if (text.length >= 256 || !text.includes(DONE)) return false;
      return parseEvent(event)?.data.trim() === '[DONE]';
    }
    const { types, marks } = TERMINAL[this.#format];
    if (!marks.some((mark) => text.includes(mark))) return false;
    const parsed = parseEvent(event);
    if (parsed === null) return false;
    const payload = parseObject(parsed.data);
    const type = (payload ? asText(payload.type) : typeIn(parsed.data)) ?? parsed.name;
    return type !== null && types.has(type);
  }

  /** The event that is coming is longer than is waited for: its start goes out, its end waits. */
  #sendInPart(out: Uint8Array[]): void {
    const joined = Buffer.concat(this.#waiting);
    const start = joined.subarray(0, -TAIL_BYTES);
    this.#sentInPart ??= new BoundedBytes();
    this.#sentInPart.add(start);
    this.#dispose([start], this.sawTerminal ? 'hold' : 'send', out);
    this.#waiting = [Buffer.from(joined.subarray(-TAIL_BYTES))];
    this.#waitingBytes = TAIL_BYTES;
  }

  #dispose(parts: readonly Uint8Array[], verdict: Verdict, out: Uint8Array[]): void {
    this.#last = verdict;
    if (verdict === 'send') out.push(...parts);
    if (verdict !== 'hold') return;
    this.#held.push(...parts);
    for (const part of parts) this.#heldBytes += part.length;
    if (this.#heldBytes <= MAX_HELD_BYTES) return;
    out.push(...this.#held);
    this.#held = [];
    this.#heldBytes = 0;
  }
}

/**
 * The chunk that `include_usage` adds: usage, and no choice. Some servers make a null of the empty
 * list, or leave it out. An error may bear usage of zeros (MiniMax).
 */
function isUsageChunk(event: Uint8Array): boolean {
  if (!asBuffer(event).includes(USAGE)) return false;
  const parsed = parseEvent(event);
  const payload = parsed && parseObject(parsed.data);
  if (!payload || payload.error || otherError(payload) !== null) return false;
  return asObject(payload.usage) !== null && objectsIn(payload.choices).length === 0;
}

/** Of a payload too long to be kept whole, hence not parsed. */
function typeIn(data: string): string | null {
  return /"type"\s*:\s*"((?:response|message)[._][a-z_.]+|error)"/.exec(data)?.[1] ?? null;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Neighbours within the same memory become one piece, so that they are written at once. */
function mergeAdjacent(pieces: Uint8Array[]): Uint8Array[] {
  const merged: Uint8Array[] = [];
  for (const piece of pieces) {
    const last = merged.at(-1);
    const isNext =
      last?.buffer === piece.buffer && last.byteOffset + last.byteLength === piece.byteOffset;
    if (last && isNext) {
      merged[merged.length - 1] = asBuffer(
        new Uint8Array(last.buffer, last.byteOffset, last.byteLength + piece.byteLength),
      );
    } else if (piece.length > 0) merged.push(asBuffer(piece));
  }
  return merged;
}
