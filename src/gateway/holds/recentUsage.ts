import { TtlCache } from '../../accounts/ttlCache.js';

/** What one request had. */
export interface UsedByRequest {
  /** Of all choices. */
  outputTokens: number;
  costMicrodollars: number;
}

const KEPT = 16;
const LATELY_MS = 3_600_000;
const MAX_KEYS = 20_000;

/** What requests of a payer for a model had lately, as far as this process saw. */
export class RecentUsage {
  readonly #recent: TtlCache<UsedByRequest[]>;

  /** @param clock monotonic, ms */
  constructor(clock: () => number = () => performance.now()) {
    this.#recent = new TtlCache(MAX_KEYS, clock);
  }

  note(payer: string, model: string | null, used: UsedByRequest): void {
    const key = keyOf(payer, model);
    const recent = this.#recent.get(key) ?? [];
    recent.push(used);
    if (recent.length > KEPT) recent.shift();
    this.#recent.set(key, recent, LATELY_MS);
  }

  /** The most of each among the latest; null = none lately. */
  most(payer: string, model: string | null): UsedByRequest | null {
    const recent = this.#recent.get(keyOf(payer, model));
    if (recent === undefined) return null;
    return {
      outputTokens: Math.max(...recent.map(({ outputTokens }) => outputTokens)),
      costMicrodollars: Math.max(...recent.map(({ costMicrodollars }) => costMicrodollars)),
    };
  }
}

function keyOf(payer: string, model: string | null): string {
  return `${payer}\n${model ?? ''}`;
}
