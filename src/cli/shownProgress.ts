import type { Progress } from './progress.js';

/** Bars that are shown: each has hidden the cursor. Here, for what draws them is seldom loaded. */
export const shown = new Set<Progress>();

/** Takes every bar away, and shows the cursor again; what goes on is not shown any more. */
export function stopProgress(): void {
  for (const progress of shown) progress.stop();
}
