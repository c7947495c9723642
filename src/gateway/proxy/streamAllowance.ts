import { LedgerError } from '../../errors.js';
import { outputFor } from '../holds/amountAtMost.js';

/** Until more is asked for again, after the database had no answer. */
const AGAIN_MS = 1_000;

/** What a stream may still generate for what is held, and how to hold more. */
export interface Allowance {
  /** Output tokens, of all choices, that the hold is for. */
  outputTokens: number;
  /** Tokens that the request may have at most; null = nobody knows. */
  mostTokens: number | null;
  /** Text of a token at least: fewer tokens than this says were not generated. */
  bytesPerToken: number;
  /** Microdollars for so many tokens. */
  amountOf(outputTokens: number): number;
  /** @returns microdollars that are held, and what is left where that is not what was asked for */
  extend(amount: number): Promise<{ isGranted: boolean; held: number; left: number }>;
}

/**
 * Watches what a stream generates. Whenever it outgrows what is held, twice as much is held, or what is
 * left; where that is nothing, it is told once.
 */
export class StreamAllowance {
  readonly #allowance: Allowance;
  readonly #onExhausted: () => void;
  #tokens: number;
  #isBusy = false;

  constructor(allowance: Allowance, onExhausted: () => void) {
    this.#allowance = allowance;
    this.#onExhausted = onExhausted;
    this.#tokens = allowance.outputTokens;
  }

  /** UTF-8 bytes of output so far. */
  see(outputBytes: number): void {
    if (this.#isBusy || outputBytes <= this.#tokens * this.#allowance.bytesPerToken) return;
    this.#isBusy = true;
    void this.#grow().then(
      (hasGrown) => {
        this.#isBusy = !hasGrown;
        if (!hasGrown) this.#onExhausted();
      },
      // Nothing can be held now: it is asked for again. Recorded already: what comes is not watched.
      (error) => {
        if (!(error instanceof LedgerError) || error.code !== 'unavailable') return;
        setTimeout(() => {
          this.#isBusy = false;
        }, AGAIN_MS).unref();
      },
    );
  }

  async #grow(): Promise<boolean> {
    const { amountOf, extend, mostTokens } = this.#allowance;
    let wanted = Math.max(1, this.#tokens * 2);
    // What may come is held already; more than that is counted as it is.
    if (mostTokens !== null && this.#tokens < mostTokens) wanted = Math.min(wanted, mostTokens);
    let result = await extend(amountOf(wanted));
    if (!result.isGranted) {
      const most = result.held + result.left;
      const fits = outputFor(most, amountOf, this.#tokens + 1, wanted - 1);
      if (fits === null) return false;
      wanted = fits;
      result = await extend(amountOf(wanted));
    }
    if (result.isGranted) this.#tokens = wanted;
    return result.isGranted;
  }
}
