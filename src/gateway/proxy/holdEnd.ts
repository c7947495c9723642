import type { Filter } from './relayTypes.js';

/**
 * For an answer that is not a stream of events: everything passes but its last byte, which waits
 * for the usage. A chunk that may be the last one is kept whole for a moment, so that a small
 * answer goes out in one piece.
 */
export class HoldEnd implements Filter {
  readonly changesLength = false;
  #held: Buffer | null = null;

  push(chunk: Buffer): readonly Uint8Array[] {
    if (chunk.length === 0) return [];
    const passed = this.#held;
    this.#held = chunk;
    return passed === null ? [] : [passed];
  }

  idle(): readonly Uint8Array[] {
    if (this.#held === null || this.#held.length < 2) return [];
    const passed = this.#held.subarray(0, -1);
    this.#held = this.#held.subarray(-1);
    return [passed];
  }

  end(): readonly Uint8Array[] {
    const held = this.#held;
    this.#held = null;
    return held === null ? [] : [held];
  }
}

/** Where nothing is metered. */
export class PassAll implements Filter {
  readonly changesLength = false;

  push(chunk: Buffer): readonly Uint8Array[] {
    return [chunk];
  }

  end(): readonly Uint8Array[] {
    return [];
  }
}
