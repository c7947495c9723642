import { constants } from 'node:os';
import { LedgerError } from '../errors.js';
import type { Output } from './output.js';
import { stopProgress } from './shownProgress.js';

/** SIGHUP is a terminal that was closed. Node.js itself undoes what `nohup` asks for. */
export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Ctrl-C, a closed terminal, or a request to end. Work that can end by itself does so at its
 * next step, and tells what it did; a second signal, or the first for other work, ends it at once.
 */
export class Interruption {
  readonly #output: Output;
  readonly #ending = new AbortController();
  #by: NodeJS.Signals | null = null;
  #isGraceful = false;
  #isAbandoned = false;
  /** How to go on after work that is ended at once. */
  remark = 'run it again';

  constructor(output: Output) {
    this.#output = output;
  }

  /** Exit status as shells give it, 128 and the signal; null: nothing interrupted the command. */
  get status(): number | null {
    return this.#by === null ? null : 128 + constants.signals[this.#by];
  }

  /** The work was left where it was. */
  get isAbandoned(): boolean {
    return this.#isAbandoned;
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** For work that ends at its next step when this is aborted, and answers with what it did. */
  gracefully(): AbortSignal {
    this.#isGraceful = true;
    return this.#ending.signal;
  }

  /** Of an answer: how it came to its end, if that was not the end of the work. */
  get fields(): { interrupted?: string } {
    return this.#by === null ? {} : { interrupted: this.#by };
  }

  /** The same in words. */
  lines(goOn: string): string[] {
    return this.#by === null ? [] : [`interrupted: ${goOn}`];
  }

  /**
   * Runs work while it listens for signals.
   * @throws LedgerError `unavailable` when it was left where it was
   */
  async guard<T>(work: () => Promise<T>): Promise<T> {
    let leave: (error: LedgerError) => void = () => {};
    const abandoned = new Promise<never>((_resolve, reject) => {
      leave = reject;
    });
    const onSignal = (signal: NodeJS.Signals) => {
      stopProgress();
      const isFirst = this.#by === null;
      this.#by ??= signal;
      this.#ending.abort();
      if (isFirst && this.#isGraceful) {
        this.#output.note('ending after this step; once more ends it at once');
        return;
      }
      this.#isAbandoned = true;
      leave(
        new LedgerError('unavailable', `interrupted (${signal}): ${this.remark}`, {
          details: { signal },
        }),
      );
    };
    for (const signal of SIGNALS) process.on(signal, onSignal);
    try {
      return await Promise.race([work(), abandoned]);
    } finally {
      for (const signal of SIGNALS) process.removeListener(signal, onSignal);
    }
  }
}
