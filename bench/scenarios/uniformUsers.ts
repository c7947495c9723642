import type { Scenario } from '../lib/scenario.js';
import { compareWrites, WRITE_BASELINES } from '../lib/writeComparison.js';

const USERS = 100_000;
const USERS_QUICK = 10_000;

export const uniformUsers: Scenario = {
  name: 'uniform-users',
  title: '100,000 users, uniform',
  question: 'What does the mechanism cost where nothing is contended?',
  workload:
    'Personal events of 100,000 users, each as likely as the other, whose rows of today exist.',
  baseline: WRITE_BASELINES,
  run: (bench) => {
    const users = bench.pick(USERS, USERS_QUICK);
    return compareWrites(
      bench,
      { users, draw: (random) => () => Math.floor(random() * users) },
      {
        oneEvent: 0.95,
        append: 1.1,
        appendToRaw: null,
        groupCommit: 2.6,
        groupCommitToCopy: null,
        hostPool: 0.8,
      },
    );
  },
};
