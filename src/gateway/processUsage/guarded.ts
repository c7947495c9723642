import { inspect } from 'node:util';
import type { Draft, FormatReader } from './draft.js';
import type { JsonObject } from './json.js';

/** Of a `failure`, in a log. */
export const READER_DEFECT =
  'an answer is not read whole, and its usage may be an estimate: a defect, please report it';

/**
 * The wall between a client's answer and a fault of ours in reading it: a payload on which a reader throws is
 * one that could not be read, told of by `failure`, and costs what it would have said; the others are read.
 */
export function shielded<Result>(draft: Draft, read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    draft.malformedChunks++;
    draft.failure ??= error instanceof Error ? error : new Error(inspect(error));
    return undefined;
  }
}

/** A reader behind it. */
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
    return shielded(this.draft, read);
  }
}
