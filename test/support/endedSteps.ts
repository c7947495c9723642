import { inForm } from './form.js';

/** Besides the first of each kind. */
const EVERY = inForm(3, 1);

interface Step {
  kind: string;
  subject: string;
}

/** Before which steps a migration is ended that goes on where it was: each once, in the short form every third. */
export class EndedSteps {
  readonly names: string[] = [];
  #met = new Set<string>();

  /** Whether it is ended before this step now. */
  take({ kind, subject }: Step): boolean {
    const name = `${kind}: ${subject}`;
    if (this.#met.has(name)) return false;
    this.#met.add(name);
    const isFirst = !this.names.some((other) => other.startsWith(`${kind}: `));
    if (!isFirst && this.#met.size % EVERY !== 0) return false;
    this.names.push(name);
    return true;
  }
}
