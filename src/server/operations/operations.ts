import type { Ledger } from '../../ledgerTypes.js';
import { BackfillJob } from './backfillJob.js';
import { LiveSampler } from './liveSampler.js';
import { ProofJob } from './proofJob.js';
import { RowRate } from './rowRate.js';

/** What the console needs and one process keeps. */
export interface Operations {
  /** Of the primary; jobs open connections of their own. */
  databaseUrl: string;
  backfill: BackfillJob;
  proof: ProofJob;
  live: LiveSampler;
  rowRate: RowRate;
  /** Ends jobs between two chunks. */
  close(): Promise<void>;
}

export function createOperations(ledger: Ledger): Operations {
  const { databaseUrl } = ledger;
  const backfill = new BackfillJob(databaseUrl);
  const proof = new ProofJob(databaseUrl);
  const live = new LiveSampler(ledger.metrics);
  return {
    databaseUrl,
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
