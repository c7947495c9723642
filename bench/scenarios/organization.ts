import type { Scenario } from '../lib/scenario.js';
import { compareWrites, WRITE_BASELINES } from '../lib/writeComparison.js';

const USERS = 50;

export const organization: Scenario = {
  name: 'organization',
  title: 'One organization with 50 users',
  question: 'What if 50 users have rows of their own, but one organization pays for them all?',
  workload: `Events of 50 users for one organization: 50 rows of today, one balance.`,
  baseline: WRITE_BASELINES,
  run: (bench) =>
    compareWrites(
      bench,
      {
        users: USERS,
        organization: true,
        draw: (random) => () => Math.floor(random() * USERS),
      },
      {
        oneEvent: 4,
        append: null,
        appendToRaw: null,
        groupCommit: null,
        groupCommitToCopy: null,
        hostPool: null,
      },
    ),
};
