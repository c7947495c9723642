import { MAX_BATCH } from './grouped.js';

/** Removals gather this long: an intent whose usage is recorded harms nobody. */
const REMOVE_AFTER_MS = 100;
/** Past that removals are forgotten, and found by whoever settles the owner's intents. */
const MAX_REMOVALS = 100_000;

/** Ids to be removed some time soon, in one statement with others. */
export class Removals {
  readonly #remove: (ids: readonly string[]) => Promise<void>;
  readonly #ids = new Set<string>();
  #timer: NodeJS.Timeout | null = null;
  #removing: Promise<void> = Promise.resolve();

  constructor(remove: (ids: readonly string[]) => Promise<void>) {
    this.#remove = remove;
  }

  add(id: string): void {
    if (this.#ids.size >= MAX_REMOVALS) return;
    this.#ids.add(id);
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      void this.flush();
    }, REMOVE_AFTER_MS).unref();
  }

  /** Never rejects: what could not be removed waits for the next time. */
  flush(): Promise<void> {
    this.#removing = this.#removing.then(async () => {
      while (this.#ids.size > 0) {
        const ids = [...this.#ids].slice(0, MAX_BATCH);
        try {
          await this.#remove(ids);
        } catch {
          return;
        }
        for (const id of ids) this.#ids.delete(id);
      }
    });
    return this.#removing;
  }
}
