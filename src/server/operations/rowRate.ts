interface Observation {
  atMs: number;
  rowsDone: number;
}

/** Polls further back say nothing of the rate now. */
const WINDOW_MS = 30_000;

/** Rows per second from successive readings of a progress row, whoever makes the progress. */
export class RowRate {
  #observations: Observation[] = [];

  /** Null until there are two readings a moment apart. */
  observe(rowsDone: number, atMs: number): number | null {
    const last = this.#observations.at(-1);
    if (last !== undefined && rowsDone < last.rowsDone) this.#observations = [];
    this.#observations.push({ atMs, rowsDone });
    this.#observations = this.#observations.filter((each) => each.atMs >= atMs - WINDOW_MS);
    const first = this.#observations[0];
    if (first === undefined || atMs - first.atMs < 500) return null;
    return Math.round(((rowsDone - first.rowsDone) / (atMs - first.atMs)) * 1_000);
  }
}
