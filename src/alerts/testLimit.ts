import { TtlCache } from '../accounts/ttlCache.js';
import { LedgerError } from '../errors.js';

const MAX_TESTS = 5;
const WITHIN_MS = 60_000;
const MAX_PAYERS = 10_000;

/** Tests of webhooks, in this process: a stranger's server is not to be hammered by pressing a button. */
export class TestLimit {
  readonly #now: () => number;
  readonly #tests: TtlCache<number[]>;

  /** `now`: a monotonic clock, ms. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#tests = new TtlCache(MAX_PAYERS, now);
  }

  /** @param payer whose webhooks they are @throws LedgerError `too_many_requests` */
  take(payer: string): void {
    const now = this.#now();
    const recent = (this.#tests.get(payer) ?? []).filter((at) => at > now - WITHIN_MS);
    const [oldest = now] = recent;
    if (recent.length >= MAX_TESTS) {
      const seconds = Math.ceil((oldest + WITHIN_MS - now) / 1_000);
      throw new LedgerError(
        'too_many_requests',
        `the webhooks of a payer are tested at most ${MAX_TESTS} times a minute; wait ${seconds} s`,
        { details: { retry_after_seconds: seconds } },
      );
    }
    this.#tests.set(payer, [...recent, now], WITHIN_MS);
  }
}
