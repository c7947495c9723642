import { setTimeout as sleep } from 'node:timers/promises';
import type { Tracing } from './tracing.js';

export interface BackgroundTask {
  /** Runs now, or again right after the run that is under way. */
  wake(): void;
  /** Resolves when the run that is under way has ended; none begins after it. */
  stop(): Promise<void>;
}

export interface TaskOptions {
  /** For metrics and logs. */
  name: string;
  /** One round. `signal` tells a long one that the task is being stopped. */
  run: (signal: AbortSignal) => Promise<unknown>;
  /** From the end of a round to the next, ms; a function decides anew each time. */
  intervalMs: number | (() => number);
  /** Before the first round: an interval, or so many ms, unless the task is woken. Default false. */
  restsFirst?: boolean | number;
  /** After a round that failed; default `intervalMs`. */
  errorIntervalMs?: number;
  /** Every failure is told: counted by task, and logged (I9). */
  onError: (error: unknown, task: string) => void;
  /** A span for each round that did something. Default: none. */
  tracing?: Tracing | null;
}

/**
 * `restsFirst` of what others left for a ledger: it can wait until the process has begun its own work,
 * and who opens a ledger for one call does not pay for it.
 */
export const FIRST_REST_MS = 1_000;

/** Starts a task of a ledger, which says how its failures and rounds are told. */
export type StartTask = (task: Omit<TaskOptions, 'onError'>) => BackgroundTask;

/**
 * The one way to do something in the background: rounds never overlap, a failure is told and does
 * not end the task, the process may end meanwhile, and `stop` waits.
 */
export function startTask(options: TaskOptions): BackgroundTask {
  const stopping = new AbortController();
  let waking = new AbortController();
  const rest = async (ms: number) => {
    await sleep(ms, undefined, { signal: waking.signal, ref: false }).catch(() => {});
  };
  const { intervalMs, errorIntervalMs, restsFirst = false } = options;
  const restMs = () => (typeof intervalMs === 'number' ? intervalMs : intervalMs());
  const loop = async () => {
    if (restsFirst !== false) await rest(restsFirst === true ? restMs() : restsFirst);
    while (!stopping.signal.aborted) {
      waking = new AbortController();
      let hasFailed = false;
      const startedAt = performance.now();
      try {
        await options.run(stopping.signal);
        options.tracing?.round(options.name, startedAt);
      } catch (error) {
        hasFailed = true;
        options.tracing?.round(options.name, startedAt, { error });
        options.onError(error, options.name);
      }
      await rest(hasFailed ? (errorIntervalMs ?? restMs()) : restMs());
    }
  };
  const ended = loop();
  return {
    wake: () => waking.abort(),
    async stop() {
      stopping.abort();
      waking.abort();
      await ended;
    },
  };
}
