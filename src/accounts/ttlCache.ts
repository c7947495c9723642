/** Answers that may be a little old: bounded in age and in number, the oldest go first. */
export class TtlCache<Value> {
  readonly #entries = new Map<string, { value: Value; expiresAtMs: number }>();
  readonly #maxEntries: number;
  readonly #now: () => number;
  #drops = 0;

  /** `now`: a monotonic clock, ms. */
  constructor(maxEntries: number, now: () => number = () => performance.now()) {
    this.#maxEntries = maxEntries;
    this.#now = now;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** To be called before what is kept is asked for: what was dropped meanwhile may be in the answer. */
  begin(): (key: string, value: Value, ttlMs: number) => void {
    const drops = this.#drops;
    return (key, value, ttlMs) => {
      if (drops === this.#drops) this.set(key, value, ttlMs);
    };
  }

  get(key: string): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (entry.expiresAtMs > this.#now()) return entry.value;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: string, value: Value, ttlMs: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, expiresAtMs: this.#now() + ttlMs });
    while (this.#entries.size > this.#maxEntries) {
      const oldest = this.#entries.keys().next();
      if (oldest.done) return;
      this.#entries.delete(oldest.value);
    }
  }

  /** Drops the entries that match; a linear scan, for rare changes. */
  deleteWhere(matches: (value: Value, key: string) => boolean): void {
    this.#drops++;
    for (const [key, entry] of this.#entries) {
      if (matches(entry.value, key)) this.#entries.delete(key);
    }
  }
}
