const WORDS_PER_SLOT = 3;
const FIRST_SLOTS = 1 << 12;
/** Of the slots, before the table is doubled. */
const MAX_LOAD = 0.7;

/**
 * Counts how often a hash was seen, in 12 bytes a slot: a `Map` ends at 16 million keys and takes ten
 * times the memory. Hashes are told apart by 64 bits; two of one file that agree in these would
 * share their numbers, once in 10^5 files of ten million rows.
 */
export class Occurrences {
  #slots = FIRST_SLOTS;
  #table = new Uint32Array(FIRST_SLOTS * WORDS_PER_SLOT);
  #distinct = 0;

  /** The number of this occurrence, from 1. */
  count(hash: Buffer): number {
    if (this.#distinct >= this.#slots * MAX_LOAD) this.#grow();
    const high = hash.readUInt32LE(0);
    const low = hash.readUInt32LE(4);
    const at = this.#find(high, low);
    const seen = this.#table[at + 2] ?? 0;
    if (seen === 0) {
      this.#distinct += 1;
      this.#table[at] = high;
      this.#table[at + 1] = low;
    }
    this.#table[at + 2] = seen + 1;
    return seen + 1;
  }

  /** Place of the slot of a hash, or of the free one where it belongs. */
  #find(high: number, low: number): number {
    for (let slot = low & (this.#slots - 1); ; slot = (slot + 1) & (this.#slots - 1)) {
      const at = slot * WORDS_PER_SLOT;
      if (this.#table[at + 2] === 0) return at;
      if (this.#table[at] === high && this.#table[at + 1] === low) return at;
    }
  }

  #grow(): void {
    const old = this.#table;
    this.#slots *= 2;
    this.#table = new Uint32Array(this.#slots * WORDS_PER_SLOT);
    for (let from = 0; from < old.length; from += WORDS_PER_SLOT) {
      const [high = 0, low = 0, seen = 0] = old.subarray(from, from + WORDS_PER_SLOT);
      if (seen > 0) this.#table.set([high, low, seen], this.#find(high, low));
    }
  }
}
