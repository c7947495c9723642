import type { Ledger } from '../../ledgerTypes.js';
import { BackfillJob } from './backfillJob.js';
import type { JobDatabase } from './jobDatabase.js';
import { LiveSampler } from './liveSampler.js';
import { ProofJob } from './proofJob.js';
import { RowRate } from './rowRate.js';

/** What the console needs of one database, and one process keeps. */
export interface Operations {
  database: JobDatabase;
  backfill: BackfillJob;
  proof: ProofJob;
  live: LiveSampler;
  rowRate: RowRate;
}

/** Of each part of the ledger its own; made when it is asked for, of an ordinary ledger at once. */
export interface PartOperations {
  of(part: Ledger): Operations;
  /** Ends jobs between two chunks. */
  close(): Promise<void>;
}

export function createOperations(ledger: Ledger): PartOperations {
  const made = new Map<Ledger, Operations>();
  const of = (part: Ledger): Operations => {
    const known = made.get(part);
    if (known !== undefined) return known;
    const operations = openOperations(part);
    made.set(part, operations);
    return operations;
  };
  // So that a page that is opened later sees what came before.
  if (ledger.parts.length === 1) of(ledger);
  return {
    of,
    async close() {
      await Promise.all(
        [...made.values()].map(async ({ live, backfill, proof }) => {
          live.close();
          await Promise.all([backfill.close(), proof.close()]);
        }),
      );
    },
  };
}

function openOperations({ databaseUrl: url, viaPooler, metrics }: Ledger): Operations {
  const database: JobDatabase = { url, viaPooler };
  return {
    database,
    backfill: new BackfillJob(database),
    proof: new ProofJob(database),
    live: new LiveSampler(metrics),
    rowRate: new RowRate(),
  };
}
