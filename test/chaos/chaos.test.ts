import { describe, expect, it } from 'vitest';
import { SEED } from '../faults/support/scale.js';
import { inForm } from '../support/form.js';
import { runChaos } from './support/run.js';

/** A short form in `npm test`; `npm run test:chaos` gives another. */
const SECONDS = Number(process.env.CHAOS_SECONDS ?? inForm(3, 7));
/** For servers and processes to start and end, and for the verdict on what is there by then. */
const AROUND_SECONDS = 180;

describe('everything at once, under every fault', () => {
  it(
    'loses nothing, counts nothing twice, answers nothing untrue, and stops nobody',
    async () => {
      console.info(`chaos for ${SECONDS} s: npm run test:chaos -- --seed ${SEED}`);
      const { problems, done, rows, totals } = await runChaos(SECONDS);
      const figures = [...done].map(([name, times]) => `${name} ${times}`);
      console.info(`${rows} rows, ${totals} totals judged; ${figures.join(', ')}`);
      expect(problems.slice(0, 20), `seed ${SEED}, ${problems.length} problems`).toEqual([]);
      expect(rows, 'no traffic, no proof').toBeGreaterThan(0);
    },
    (SECONDS * 2 + AROUND_SECONDS) * 1_000,
  );
});
