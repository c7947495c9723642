import { MAX_BATCH } from './grouped.js';

/** Removals gather this long: an intent whose usage is recorded harms nobody. */
const REMOVE_AFTER_MS = 100;
/** The same after one that failed: the database is away. */
const RETRY_AFTER_MS = 1_000;
/** Past that removals are forgotten, and found by whoever settles the owner's intents. */
const MAX_REMOVALS = 100_000;

/** Ids to be removed some time soon, in one statement with others. */
export class Removals {
  readonly #remove: (ids: readonly string[]) => Promise<void>;
  readonly #isNeeded: (id: string) => boolean;
  readonly #ids = new Set<string>();
  #timer: NodeJS.Timeout | null = null;
  #removing: Promise<void> = Promise.resolve();
  #isEnded = false;

  /** @param isNeeded by now: what was asked for before is forgotten. Default: nothing is */
  constructor(
    remove: (ids: readonly string[]) => Promise<void>,
    isNeeded: (id: string) => boolean = () => false,
  ) {
    this.#remove = remove;
    this.#isNeeded = isNeeded;
  }

  add(id: string): void {
    if (this.#ids.size >= MAX_REMOVALS) return;
    this.#ids.add(id);
    this.#flushIn(REMOVE_AFTER_MS);
  }

  #flushIn(ms: number): void {
    if (this.#isEnded) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      void this.flush();
    }, ms).unref();
  }

  /** A last try, and no more. Never rejects. */
  end(): Promise<void> {
    this.#isEnded = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    return this.flush();
  }

  /** Never rejects: what could not be removed is tried again. */
  flush(): Promise<void> {
    this.#removing = this.#removing.then(async () => {
      while (this.#ids.size > 0) {
        const ids = [...this.#ids].slice(0, MAX_BATCH);
        try {
          await this.#remove(ids.filter((id) => !this.#isNeeded(id)));
        } catch {
          this.#flushIn(RETRY_AFTER_MS);
          return;
        }
        for (const id of ids) this.#ids.delete(id);
      }
    });
    return this.#removing;
  }
}
