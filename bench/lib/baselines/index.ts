import type { ApproachDefinition } from '../approach.js';
import { copy } from './copy.js';
import { materializedView } from './materializedView.js';
import { rawInsert } from './rawInsert.js';
import { repairQueue } from './repairQueue.js';
import { seed, seedWithLookups } from './seed.js';
import { slottedCounter } from './slottedCounter.js';
import { rowTrigger, statementTrigger } from './triggers.js';

/** Every alternative, and the two limits. */
export const BASELINES: readonly ApproachDefinition[] = [
  rawInsert,
  copy,
  seed,
  seedWithLookups,
  rowTrigger,
  statementTrigger,
  slottedCounter,
  repairQueue,
  materializedView,
];
