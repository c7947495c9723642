/** A statement that returns one row per violation: `message`. */
export interface Invariant {
  text: string;
  /** Tables of which one must have rows for there to be a violation; else it is not asked. Default: always. */
  of?: readonly string[];
}

export const always = (text: string): Invariant => ({ text });
export const ofRows = (of: readonly string[], texts: readonly string[]): Invariant[] =>
  texts.map((text) => ({ text, of }));

export function tablesOf(invariants: readonly Invariant[]): string[] {
  return [...new Set(invariants.flatMap(({ of = [] }) => of))];
}

/** Those that can find something where only these tables have rows. */
export function askable(
  invariants: readonly Invariant[],
  filled: readonly string[],
): readonly Invariant[] {
  return invariants.filter(
    ({ of }) => of === undefined || of.some((name) => filled.includes(name)),
  );
}
