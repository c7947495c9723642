import { createHash } from 'node:crypto';

/** Numbers that follow from a text alone: the same on every machine. */
export class SeededRandom {
  readonly #seed: string;
  #block: Buffer = Buffer.alloc(0);
  #blockIndex = 0;
  #offset = 0;

  constructor(seed: string) {
    this.#seed = seed;
  }

  /** 0 <= x < 1 */
  next(): number {
    if (this.#offset + 4 > this.#block.length) {
      const text = `${this.#seed}#${this.#blockIndex++}`;
      this.#block = createHash('sha512').update(text).digest();
      this.#offset = 0;
    }
    const value = this.#block.readUInt32BE(this.#offset) / 2 ** 32;
    this.#offset += 4;
    return value;
  }

  /** A whole number from `from` to `until`, both inclusive. */
  between(from: number, until: number): number {
    return from + Math.floor(this.next() * (until - from + 1));
  }

  /** Long-tailed around its median, as sizes of prompts are. */
  logNormal(median: number, spread: number): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
    return median * Math.exp(spread * normal);
  }

  /** One of the choices, by weight. */
  pick<Choice extends { weight: number }>(choices: readonly [Choice, ...Choice[]]): Choice {
    const total = choices.reduce((sum, { weight }) => sum + weight, 0);
    let left = this.next() * total;
    for (const choice of choices) {
      left -= choice.weight;
      if (left < 0) return choice;
    }
    return choices[0];
  }
}

/** A UUID that follows from a text; version 8, as RFC 9562 names ids of one's own making. */
export function uuidOf(text: string): string {
  const hash = createHash('sha256').update(text).digest();
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x80;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  const hex = hash.toString('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20, 32),
  ].join('-');
}
