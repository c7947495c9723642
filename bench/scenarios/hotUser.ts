import type { Scenario } from '../lib/scenario.js';
import { compareWrites, WRITE_BASELINES } from '../lib/writeComparison.js';

export const hotUser: Scenario = {
  name: 'hot-user',
  title: 'One hot user',
  question: 'How fast can one user be written to, when all events hit the same totals?',
  workload: 'Personal events of a single user, whose row of today exists, in a closed loop.',
  baseline: WRITE_BASELINES,
  run: (bench) =>
    compareWrites(
      bench,
      { users: 1, draw: () => () => 0 },
      {
        oneEvent: 3.5,
        append: null,
        appendToRaw: 0.65,
        groupCommit: 18,
        groupCommitToCopy: 0.6,
        hostPool: 3,
      },
    ),
};
