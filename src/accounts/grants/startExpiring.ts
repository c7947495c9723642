import { type BackgroundTask, FIRST_REST_MS, type StartTask } from '../../background.js';
import { BUSY_MS, type ExpirerOptions, type ExpiryLook, GrantExpirer } from './expirer.js';

/** Grants that others add meanwhile are found within this time. */
const MAX_REST_MS = 15_000;
const MIN_REST_MS = 50;

export interface ExpiringOptions extends Omit<ExpirerOptions, 'onError'> {
  start: StartTask;
  /** A payer whose expiries failed. */
  tell: (error: unknown, task: string, details: object) => void;
}

/** Lets grants expire in the background: at their time, to a few hundred milliseconds. */
export function startExpiring({ start, tell, ...options }: ExpiringOptions): BackgroundTask {
  const name = 'credit_expiry';
  const expirer = new GrantExpirer({
    ...options,
    onError: (error, payer) => tell(error, name, { payer }),
  });
  let restMs = 0;
  return start({
    name,
    intervalMs: () => restMs,
    restsFirst: FIRST_REST_MS,
    errorIntervalMs: MAX_REST_MS,
    run: async (signal) => {
      restMs = untilNext(await expirer.expireDue(signal));
    },
  });
}

function untilNext({ busy, nextInMs }: ExpiryLook): number {
  const most = busy > 0 ? BUSY_MS : MAX_REST_MS;
  return Math.max(MIN_REST_MS, Math.min(most, nextInMs ?? most));
}
