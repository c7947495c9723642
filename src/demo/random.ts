import { createHash } from 'node:crypto';
import { uuidFromHash } from '../ids.js';

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

/** A UUID that follows from a text. */
export function uuidOf(text: string): string {
  return uuidFromHash(createHash('sha256').update(text).digest());
}
