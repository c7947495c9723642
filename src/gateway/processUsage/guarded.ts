import type { FormatReader } from './draft.js';
import type { JsonObject } from './json.js';

/**
 * The wall between a client's answer and a fault of ours in reading it: a payload on which a reader throws is
 * one that could not be read, told of by `failure`, and costs what it would have said; the others are read.
 */
export function guarded(reader: FormatReader): FormatReader {
  return new GuardedReader(reader);
}

class GuardedReader implements FormatReader {
  readonly #reader: FormatReader;

  constructor(reader: FormatReader) {
    this.#reader = reader;
  }

  get draft() {
    return this.#reader.draft;
  }

  get sawFirstToken(): boolean {
    return this.#reader.sawFirstToken;
  }

  event(payload: JsonObject, text: string): void {
    this.#read(() => this.#reader.event(payload, text));
  }

  plain(text: string): boolean {
    return this.#read(() => this.#reader.plain?.(text)) ?? false;
  }

  body(payload: JsonObject, text: string): void {
    this.#read(() => this.#reader.body(payload, text));
  }

  #read<Result>(read: () => Result): Result | undefined {
    try {
      return read();
    } catch (error) {
      this.draft.malformedChunks++;
      this.draft.failure ??= error as Error;
      return undefined;
    }
  }
}
