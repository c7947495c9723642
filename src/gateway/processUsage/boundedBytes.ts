/** Bytes that are read in full; a longer event or body is read from its head and its tail. */
const MAX_WHOLE_BYTES = 1 << 20;
const HEAD_BYTES = 1 << 14;
const TAIL_BYTES = 1 << 16;
const FIRST_CAPACITY = 1 << 10;

/** Collects one event or body in bounded memory. */
export class BoundedBytes {
  #buffer: Buffer = Buffer.alloc(0);
  #length = 0;
  #head: Buffer | null = null;

  get length(): number {
    return this.#length;
  }

  /** Something was dropped between head and tail. */
  get isCut(): boolean {
    return this.#head !== null;
  }

  add(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += MAX_WHOLE_BYTES) {
      this.#append(bytes.subarray(at, at + MAX_WHOLE_BYTES));
    }
  }

  /** All of it; where it was cut, the head and the tail, with a space between. */
  take(): Buffer {
    const tail = this.#buffer.subarray(0, this.#length);
    const all = this.#head === null ? tail : Buffer.concat([this.#head, Buffer.from(' '), tail]);
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    this.#head = null;
    return all;
  }

  #append(bytes: Uint8Array): void {
    this.#reserve(this.#length + bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
    if (this.#length <= MAX_WHOLE_BYTES) return;
    this.#head ??= Buffer.from(this.#buffer.subarray(0, HEAD_BYTES));
    this.#buffer.copyWithin(0, this.#length - TAIL_BYTES, this.#length);
    this.#length = TAIL_BYTES;
  }

  /** Doubles, so that many small pieces cost no more than one large one. */
  #reserve(length: number): void {
    if (length <= this.#buffer.length) return;
    const capacity = Math.max(length, this.#buffer.length * 2, FIRST_CAPACITY);
    const grown = Buffer.allocUnsafe(capacity);
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
  }
}
