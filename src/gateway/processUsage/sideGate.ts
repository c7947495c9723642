import { asText, parseObject } from './json.js';
import { EventScanner, parseEvent } from './sse.js';
import type { StreamGate } from './types.js';

const TERMINAL_TYPES: ReadonlySet<string> = new Set([
  'image_generation.completed',
  'image_edit.completed',
  'transcript.text.done',
  'speech.audio.done',
  'error',
]);
/** An event longer than this passes as it comes: it is an image, and cannot be waited for. */
const MAX_WAITING_BYTES = 16 << 20;

/** Byte-exact: every event passes when it is whole, the terminal one and what follows it wait. */
export class HoldTerminal implements StreamGate {
  readonly #scanner = new EventScanner();
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #held: Uint8Array[] = [];
  sawTerminal = false;

  push(bytes: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    const { continuesLast, ends } = this.#scanner.scan(bytes);
    let from = 0;
    if (continuesLast) {
      (this.sawTerminal ? this.#held : out).push(bytes.subarray(0, 1));
      from = 1;
    }
    for (const end of ends) {
      this.#wait(bytes.subarray(from, end));
      from = end;
      this.#endEvent(out);
    }
    this.#wait(bytes.subarray(from));
    if (this.#waitingBytes > MAX_WAITING_BYTES) this.#release(out);
    return out;
  }

  held(): Uint8Array {
    const all = Buffer.concat([...this.#held, ...this.#waiting]);
    this.#held = [];
    this.#waiting = [];
    return all;
  }

  #wait(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
  }

  #endEvent(out: Uint8Array[]): void {
    this.sawTerminal ||= isTerminal(Buffer.concat(this.#waiting));
    this.#release(this.sawTerminal ? this.#held : out);
  }

  #release(to: Uint8Array[]): void {
    to.push(...this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
  }
}

function isTerminal(event: Buffer): boolean {
  const parsed = parseEvent(event);
  if (parsed === null) return false;
  const payload = parseObject(parsed.data);
  return TERMINAL_TYPES.has((payload && asText(payload.type)) ?? parsed.name ?? '');
}
