import { zipf } from '../lib/random.js';
import type { Scenario } from '../lib/scenario.js';
import { compareWrites, WRITE_BASELINES } from '../lib/writeComparison.js';

const USERS = 100_000;
const USERS_QUICK = 10_000;
const EXPONENT = 1;

export const zipfUsers: Scenario = {
  name: 'zipf-users',
  title: '100,000 users, Zipf',
  question: 'What if a few users write much and many write little, as real users do?',
  workload:
    'Personal events of 100,000 users whose rows of today exist; the user of rank r is drawn ' +
    'with weight 1/r, so the first gets 8% of the events.',
  baseline: WRITE_BASELINES,
  run: (bench) => {
    const users = bench.pick(USERS, USERS_QUICK);
    return compareWrites(
      bench,
      { users, draw: (random) => zipf(users, EXPONENT, random) },
      {
        oneEvent: null,
        append: null,
        appendToRaw: null,
        groupCommit: null,
        groupCommitToCopy: null,
        hostPool: null,
      },
    );
  },
};
