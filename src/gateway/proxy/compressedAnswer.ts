import type { UsageReading } from '../processUsage/index.js';
import { Decoder } from './decoder.js';
import type { MeteredAnswer, ReadAnswer } from './metering.js';

/** Compressed, though nobody asked for it: a copy is decoded, the bytes pass as they came. */
export class CopiedAnswer implements MeteredAnswer {
  readonly changesLength = false;
  readonly #answer: ReadAnswer;
  readonly #decoder: Decoder;

  constructor(answer: ReadAnswer, codings: readonly string[]) {
    this.#answer = answer;
    this.#decoder = new Decoder(codings, (chunk) => answer.take(chunk));
  }

  get upstreamId(): string | null {
    return this.#answer.upstreamId;
  }

  get firstTokenAt(): number | null {
    return this.#answer.firstTokenAt;
  }

  push(chunk: Buffer): readonly Uint8Array[] {
    this.#decoder.write(chunk);
    return this.#answer.filter.push(chunk);
  }

  idle(): readonly Uint8Array[] {
    return this.#answer.idle?.() ?? [];
  }

  flush(): Promise<void> {
    return this.#decoder.end();
  }

  end(): readonly Uint8Array[] {
    return this.#answer.end();
  }

  read(): UsageReading {
    return this.#answer.read();
  }
}

/** A compressed stream of which something is taken out: what passes is decoded. */
export class DecodedAnswer implements MeteredAnswer {
  readonly changesLength = true;
  readonly decodes = true;
  readonly isStream = true;
  readonly #answer: ReadAnswer;
  readonly #decoder: Decoder;
  #write: (pieces: readonly Uint8Array[]) => void = () => {};

  constructor(answer: ReadAnswer, codings: readonly string[]) {
    this.#answer = answer;
    this.#decoder = new Decoder(codings, (chunk) => this.#write(answer.push(chunk)));
  }

  get isWhole(): boolean {
    return this.#answer.isWhole;
  }

  get isBroken(): boolean {
    return this.#decoder.isBroken;
  }

  get upstreamId(): string | null {
    return this.#answer.upstreamId;
  }

  get firstTokenAt(): number | null {
    return this.#answer.firstTokenAt;
  }

  onLate(write: (pieces: readonly Uint8Array[]) => void): void {
    this.#write = write;
  }

  push(chunk: Buffer): readonly Uint8Array[] {
    this.#decoder.write(chunk);
    return [];
  }

  flush(): Promise<void> {
    return this.#decoder.end();
  }

  end(): readonly Uint8Array[] {
    return this.#answer.end();
  }

  read(): UsageReading {
    return this.#answer.read();
  }
}
