import type { Ledger } from '../../ledgerTypes.js';
import { BackfillJob } from './backfillJob.js';
import type { JobDatabase } from './jobDatabase.js';
import { LiveSampler } from './liveSampler.js';
import { ProofJob } from './proofJob.js';
import { RowRate } from './rowRate.js';

/** What the console needs and one process keeps. */
export interface Operations {
  database: JobDatabase;
  backfill: BackfillJob;
  proof: ProofJob;
  live: LiveSampler;
  rowRate: RowRate;
  /** Ends jobs between two chunks. */
  close(): Promise<void>;
}

export function createOperations(ledger: Ledger): Operations {
  const database: JobDatabase = { url: ledger.databaseUrl, viaPooler: ledger.viaPooler };
  const backfill = new BackfillJob(database);
  const proof = new ProofJob(database);
  const live = new LiveSampler(ledger.metrics);
  return {
    database,
    backfill,
    proof,
    live,
    rowRate: new RowRate(),
    async close() {
      live.close();
      await Promise.all([backfill.close(), proof.close()]);
    },
  };
}
