import type { Query } from '../db/query.js';
import type { Metrics } from '../metrics.js';
import { type ComparedRange, type ComparisonRow, compareStatement } from './shadow.sql.js';

/** Share of reads that are compared: all while the mode is `shadow`, a few in `rollup`. */
const SAMPLE_RATE = { shadow: 1, rollup: 0.02, raw: 0 } as const;
/** In `rollup`, where every comparison is a scan that the mode is there to avoid. */
const MIN_INTERVAL_MS = { shadow: 0, rollup: 5_000, raw: 0 } as const;

export type Compared = (isEqual: boolean, example: () => string) => void;

/**
 * Compares reads with the other source, off the request's path: on a connection of its own with a
 * time budget (its statement timeout), one at a time; what comes meanwhile is not compared.
 */
export class ShadowReads {
  readonly #query: Query;
  readonly #compared: Compared;
  readonly #metrics: Metrics;
  #running: Promise<void> | null = null;
  #lastAtMs = 0;

  constructor(query: Query, compared: Compared, metrics: Metrics) {
    this.#query = query;
    this.#compared = compared;
    this.#metrics = metrics;
  }

  sample(mode: 'raw' | 'shadow' | 'rollup', range: ComparedRange): void {
    if (this.#running || Math.random() >= SAMPLE_RATE[mode]) return;
    if (performance.now() - this.#lastAtMs < MIN_INTERVAL_MS[mode]) return;
    this.#lastAtMs = performance.now();
    this.#running = this.#compare(range)
      .catch(() => this.#metrics.shadowComparisons.inc({ outcome: 'over_budget' }))
      .finally(() => {
        this.#running = null;
      });
  }

  async #compare(range: ComparedRange): Promise<void> {
    const { isEqual, describe } = await compareSources(this.#query, range);
    this.#compared(isEqual, describe);
  }

  async stop(): Promise<void> {
    await this.#running;
  }
}

/** Raw usage against the rollup for one scope, in one snapshot. Totals in microdollars. */
export async function compareSources(
  query: Query,
  range: ComparedRange,
): Promise<{ isEqual: boolean; describe: () => string }> {
  const [row] = await query<ComparisonRow>(compareStatement(range));
  const different = Number(row?.different_days ?? 0);
  return {
    isEqual: different === 0,
    describe: () =>
      `${different} of ${row?.days} days differ, raw ${row?.raw_total}, rollup ` +
      `${row?.rollup_total} microdollars`,
  };
}
