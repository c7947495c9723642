/** How a job goes on beside others: whose turn it is, and what a step of it waits for. */
export interface Pace {
  /** A day, start to end. */
  turn<T>(work: () => Promise<T>): Promise<T>;
  /** One statement or short transaction; `minutes` of the day, where it compares these. */
  step<T>(work: () => Promise<T>, minutes?: number): Promise<T>;
  /** What a comparison should begin with, of a day. */
  readonly sliceMinutes: number;
}

/** Without a rest: verification and repair, which somebody waits for. */
export const AT_ONCE: Pace = {
  turn: (work) => work(),
  step: (work) => work(),
  sliceMinutes: 1_440,
};

/** Aimed length of a comparison, as of the daily rollup's chunks. */
const TARGET_MS = 700;
const SIZES = [1_440, 360, 60, 15] as const;

/** Chooses slices that end within the target: shrinks at once, grows when there is room for the next size. */
export class SliceSize {
  #index = 0;

  get minutes(): number {
    return SIZES[this.#index] ?? 15;
  }

  observe(minutes: number, durationMs: number): void {
    if (minutes !== this.minutes) return;
    const larger = SIZES[this.#index - 1];
    if (durationMs > TARGET_MS * 2) this.#index = Math.min(this.#index + 1, SIZES.length - 1);
    else if (larger && durationMs * (larger / minutes) < TARGET_MS) this.#index -= 1;
  }
}
