/** Where server-sent events end in bytes, for every framing: LF, CRLF, CR, cut anywhere. */
const LF = 0x0a;
const CR = 0x0d;

/** Of the header `content-type`. */
export const isEventStream = (type: string | null | undefined): boolean =>
  /^text\/event-stream\b/i.test(type ?? '');

export interface ScannedBytes {
  /** The first byte is the LF of a CRLF that ended the last event of the bytes before. */
  continuesLast: boolean;
  /** Offsets right after each event, its blank line included. */
  ends: number[];
}

/**
 * Finds the ends of events without decoding, so that bytes can be passed on as they are. An event
 * whose blank line ends in CR is over at once; should an LF follow, `continuesLast` says so.
 */
export class EventScanner {
  #isLineEmpty = true;
  #afterCr = false;
  #endedByCr = false;

  scan(bytes: Uint8Array): ScannedBytes {
    const ends: number[] = [];
    let continuesLast = false;
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at];
      if (byte === LF && this.#afterCr) {
        this.#afterCr = false;
        if (this.#endedByCr) {
          if (at === 0) continuesLast = true;
          else ends[ends.length - 1] = at + 1;
          this.#endedByCr = false;
        }
        continue;
      }
      this.#endedByCr = false;
      this.#afterCr = byte === CR;
      if (byte !== LF && byte !== CR) {
        this.#isLineEmpty = false;
        continue;
      }
      if (this.#isLineEmpty) {
        ends.push(at + 1);
        this.#endedByCr = byte === CR;
      }
      this.#isLineEmpty = true;
    }
    return { continuesLast, ends };
  }
}

export interface SseEvent {
  name: string | null;
  data: string;
}

/** Every call of it is a text of its own, so one serves all: making it costs more than using it. */
const DECODER = new TextDecoder();

export function decodeText(bytes: Uint8Array): string {
  return DECODER.decode(bytes);
}

/** The fields of one event's bytes; null for comments and events without data. */
export function parseEvent(bytes: Uint8Array): SseEvent | null {
  const text = decodeText(bytes);
  let name: string | null = null;
  let data: string | null = null;
  const lines = text.includes('\r') ? text.split(/\r\n|\n|\r/) : text.split('\n');
  for (const line of lines) {
    if (line === '' || line.startsWith(':')) continue;
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const rest = colon === -1 ? '' : line.slice(colon + 1);
    const value = rest.startsWith(' ') ? rest.slice(1) : rest;
    if (field === 'event') name = value;
    else if (field === 'data') data = data === null ? value : `${data}\n${value}`;
  }
  return data === null ? null : { name, data };
}
