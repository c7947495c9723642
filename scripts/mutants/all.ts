import { ALERT_MUTANTS } from './alerts.js';
import { ARCHIVE_MUTANTS } from './archive.js';
import { GRANT_MUTANTS } from './grants.js';
import { HOLD_MUTANTS } from './holds.js';
import { JOURNAL_MUTANTS } from './journal.js';
import type { Mutant } from './mutant.js';
import { READ_MUTANTS } from './read.js';
import { ROLLUP_MUTANTS } from './rollup.js';
import { SETTLE_MUTANTS } from './settle.js';
import { SHARD_MUTANTS } from './shards.js';
import { WRITE_MUTANTS } from './write.js';

/** In the order in which they are planted. */
export const MUTANTS: readonly Mutant[] = [
  ...WRITE_MUTANTS,
  ...SETTLE_MUTANTS,
  ...READ_MUTANTS,
  ...ROLLUP_MUTANTS,
  ...ARCHIVE_MUTANTS,
  ...JOURNAL_MUTANTS,
  ...HOLD_MUTANTS,
  ...GRANT_MUTANTS,
  ...ALERT_MUTANTS,
  ...SHARD_MUTANTS,
];
