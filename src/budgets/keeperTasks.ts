import type { BackgroundTask, StartTask } from '../background.js';
import type { BudgetKeeper } from './keeper.js';

const FOLD_INTERVAL_MS = 200;
const SWEEP_INTERVAL_MS = 30_000;
/** Within the lease of a process by far (keeper.ts). */
const BEAT_INTERVAL_MS = 15_000;

/** Shows that this process lives, for the holds that it has. */
export function startBeating(keeper: BudgetKeeper, start: StartTask): BackgroundTask {
  return start({
    name: 'hold_beat',
    intervalMs: BEAT_INTERVAL_MS,
    restsFirst: true,
    run: () => keeper.beatIfNeeded(),
  });
}

/** Folds what this process knows to be due, and now and then what others left. */
export function startBudgetFolds(keeper: BudgetKeeper, start: StartTask): BackgroundTask[] {
  const folding = start({
    name: 'budget',
    intervalMs: FOLD_INTERVAL_MS,
    errorIntervalMs: FOLD_INTERVAL_MS * 5,
    run: (signal) => keeper.foldDue(signal),
  });
  const sweeping = start({
    name: 'budget_sweep',
    intervalMs: () => SWEEP_INTERVAL_MS * (0.75 + Math.random() / 2),
    restsFirst: true,
    run: (signal) => keeper.sweep(signal),
  });
  return [folding, sweeping];
}
