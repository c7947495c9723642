import { type Payer, payerKey } from '../counter/payer.js';

/** How long a payer is appended for without another try in place. */
const APPEND_FOR_MS = 200;
const MAX_PAYERS = 10_000;

/**
 * Payers that a write could not update in place lately. Their next writes append at once, which is
 * cheaper than another vain try, and leaves the row lock to the settle. A hint only: being wrong
 * costs time, never exactness.
 */
export class ContendedPayers {
  readonly #untilMs = new Map<string, number>();

  has(payer: Payer): boolean {
    if (this.#untilMs.size === 0) return false;
    const key = payerKey(payer);
    const untilMs = this.#untilMs.get(key);
    if (untilMs === undefined) return false;
    if (untilMs > performance.now()) return true;
    this.#untilMs.delete(key);
    return false;
  }

  add(payer: Payer): void {
    if (this.#untilMs.size >= MAX_PAYERS) this.#untilMs.clear();
    this.#untilMs.set(payerKey(payer), performance.now() + APPEND_FOR_MS);
  }
}
