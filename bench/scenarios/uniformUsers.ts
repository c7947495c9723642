import type { Scenario } from '../lib/scenario.js';
import { compareWrites, WRITE_BASELINES } from '../lib/writeComparison.js';

const USERS = 100_000;

export const uniformUsers: Scenario = {
  name: 'uniform-users',
  title: '100,000 users, uniform',
  question: 'What does the mechanism cost where nothing is contended?',
  workload:
    'Personal events of 100,000 users, each as likely as the other, whose rows of today exist.',
  baseline: WRITE_BASELINES,
  run: (bench) =>
    compareWrites(
      bench,
      { users: USERS, draw: (random) => () => Math.floor(random() * USERS) },
      { oneEvent: 0.9, appendAlways: 1.3, groupCommit: 2 },
    ),
};
