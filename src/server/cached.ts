import { LedgerError } from '../errors.js';

/**
 * The same answer to everyone for `ttlMs`, and one run at a time: callers that come while it runs
 * share it. A failure is not kept.
 */
export function cached<T>(run: () => Promise<T>, ttlMs: number): () => Promise<T> {
  let running: Promise<T> | null = null;
  let last: { value: T; untilMs: number } | null = null;
  return () => {
    if (last !== null && performance.now() < last.untilMs) return Promise.resolve(last.value);
    running ??= run()
      .then((value) => {
        last = { value, untilMs: performance.now() + ttlMs };
        return value;
      })
      .finally(() => {
        running = null;
      });
    return running;
  };
}

/** Rejects with `unavailable` when the work takes longer; the work itself goes on. */
export async function withTimeLimit<T>(
  work: Promise<T>,
  limitMs: number,
  message: string,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new LedgerError('unavailable', message)), limitMs);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
    work.catch(() => {});
  }
}
