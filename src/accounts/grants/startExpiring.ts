import { type BackgroundTask, startTask } from '../../background.js';
import { BUSY_MS, type ExpirerOptions, type ExpiryLook, GrantExpirer } from './expirer.js';

/** Grants that others add meanwhile are found within this time. */
const MAX_REST_MS = 15_000;
const MIN_REST_MS = 50;

export interface ExpiringOptions extends Omit<ExpirerOptions, 'onError'> {
  tell: (error: unknown, task: string, details?: object) => void;
}

/** Lets grants expire in the background: at their time, to a few hundred milliseconds. */
export function startExpiring({ tell, ...options }: ExpiringOptions): BackgroundTask {
  const name = 'credit_expiry';
  const expirer = new GrantExpirer({
    ...options,
    onError: (error, payer) => tell(error, name, { payer }),
  });
  let restMs = 0;
  return startTask({
    name,
    intervalMs: () => restMs,
    errorIntervalMs: MAX_REST_MS,
    onError: tell,
    run: async (signal) => {
      restMs = untilNext(await expirer.expireDue(signal));
    },
  });
}

function untilNext({ busy, nextInMs }: ExpiryLook): number {
  const most = busy > 0 ? BUSY_MS : MAX_REST_MS;
  return Math.max(MIN_REST_MS, Math.min(most, nextInMs ?? most));
}
