import { inForm } from '../../support/form.js';
import { type Random, createRandom as seededRandom } from '../../support/random.js';

/** Random kills of the whole suite: a few in `npm test`, 200 in `npm run test:faults`. */
export const KILLS = Number(process.env.FAULT_KILLS ?? inForm(4, 6));
/** The long form: more rounds of everything, not only of kills. */
export const IS_LONG = KILLS >= 100;
/** Of the whole run; printed with every failure, so that its choices can be made again. */
export const SEED = Number(process.env.FAULT_SEED ?? Date.now() % 1_000_000_007);

export type { Random } from '../../support/random.js';

/** Its choices are those of this run's seed. */
export function createRandom(stream: string): Random {
  return seededRandom(SEED, stream);
}
