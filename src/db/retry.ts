import { setTimeout as sleep } from 'node:timers/promises';
import { classifyFailure, failureName, isLockTimeout } from './sqlstate.js';

/** Sends of one statement: the first and its retries. */
const MAX_ATTEMPTS = 6;
/** A lock timeout was a long wait already. */
const MAX_LOCK_TIMEOUT_ATTEMPTS = 2;
const FIRST_BACKOFF_MS = 20;

/**
 * Runs an idempotent piece of work again after failures that are nobody's fault: lost
 * connections, serialization failures, deadlocks, shutdowns and, unless `splits`, timeouts.
 * Bounded, with full jitter, so that rivals that failed together do not come back together.
 */
export async function withRetry<T>(
  run: () => Promise<T>,
  options: { splits?: boolean; onRetry?: (cause: string) => void } = {},
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      const kind = classifyFailure(error);
      const again = kind === 'retry' || (kind === 'contended' && !options.splits);
      const limit = isLockTimeout(error) ? MAX_LOCK_TIMEOUT_ATTEMPTS : MAX_ATTEMPTS;
      if (!again || attempt >= limit) throw error;
      options.onRetry?.(failureName(error));
      const ceilingMs = FIRST_BACKOFF_MS * 2 ** (attempt - 1);
      await sleep(Math.random() * ceilingMs);
    }
  }
}
