/**
 * So many at once, the others in order of arrival: fewer than there are connections, whose pool would give up
 * on who waits in it for long, as if the database were away.
 */
export class Turns {
  readonly #atOnce: number;
  readonly #next: (() => void)[] = [];
  #taken = 0;

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#taken >= this.#atOnce) {
      await new Promise<void>((resolve) => this.#next.push(resolve));
    } else this.#taken++;
    try {
      return await work();
    } finally {
      const next = this.#next.shift();
      if (next) next();
      else this.#taken--;
    }
  }
}
