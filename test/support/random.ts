export interface Random {
  /** In [0, 1). */
  next(): number;
  /** In [from, until). */
  between(from: number, until: number): number;
  pick<T>(choices: readonly T[]): T;
}

/** Mulberry32: small, and the same everywhere. `stream` tells those of one seed apart. */
export function createRandom(seed: number, stream: string): Random {
  let state = seed;
  for (const letter of stream) state = Math.imul(state ^ letter.charCodeAt(0), 0x01000193);
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    between: (from, until) => from + Math.floor(next() * (until - from)),
    pick: (choices) => choices[Math.floor(next() * choices.length)] as (typeof choices)[number],
  };
}
