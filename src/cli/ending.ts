import { constants } from 'node:os';
import type { Logger } from 'pino';
import { EXIT_STATUS } from '../errors.js';
import { SIGNALS } from './interruption.js';

export interface Ending {
  /** The first signal, or what failed for good. */
  promise: Promise<NodeJS.Signals | Error>;
  /** The same; null until then. */
  readonly cause: NodeJS.Signals | Error | null;
  fail(error: Error): void;
  /** In time. */
  cancel(): void;
}

/**
 * The first signal to end; a second one ends the process at once.
 * @param limit starts the time that the end may take
 */
export function waitForEnd(log: Logger, limit: () => NodeJS.Timeout): Ending {
  let resolve: (cause: NodeJS.Signals | Error) => void = () => {};
  let timer: NodeJS.Timeout | undefined;
  let seen = false;
  let first: NodeJS.Signals | Error | null = null;
  const promise = new Promise<NodeJS.Signals | Error>((settle) => {
    resolve = settle;
  });
  const end = (cause: NodeJS.Signals | Error) => {
    if (first !== null) return;
    first = cause;
    timer = limit();
    const signal = cause instanceof Error ? {} : { signal: cause };
    log.info(signal, 'stopping; a second signal ends it at once');
    resolve(cause);
  };
  const onSignal = (signal: NodeJS.Signals) => {
    if (seen) {
      log.warn({ signal }, 'second signal: exiting at once');
      process.exit(128 + constants.signals[signal]);
    }
    seen = true;
    end(signal);
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return {
    promise,
    get cause() {
      return first;
    },
    fail: end,
    cancel: () => {
      clearTimeout(timer);
      for (const signal of SIGNALS) process.removeListener(signal, onSignal);
    },
  };
}

/**
 * Ends the process when its time is up, before its orchestrator does: what was acknowledged is
 * committed, or in the journal.
 */
export function endInTime(shutdownMs: number, log: Logger): NodeJS.Timeout {
  return setTimeout(() => {
    log.fatal({ shutdownMs }, 'the time to stop is up; what is left is settled at the next start');
    process.exit(EXIT_STATUS.unavailable);
  }, shutdownMs);
}
