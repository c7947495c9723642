import { type DeadLetter, DeadLetterFile } from '../../journal/deadLetters.js';
import { type FileSystem, nodeFileSystem } from '../../journal/fileSystem.js';
import { listSlots, slotDirectory } from '../../journal/slots.js';
import type { Ledger } from '../../ledgerTypes.js';
import { isOfOne, toLedgerError } from './failures.js';
import { recordLate } from './lateUsage.js';
import type { DatedUsage } from './records.js';

export interface RetryReport {
  /** In the database now, or before. */
  resolved: number;
  /** Still refused. */
  refused: { id: string; reason: string; message: string }[];
}

/**
 * Records the dead letters of a journal root again, after what was wrong has been put right (a user
 * created, the schema migrated). Idempotent; may run beside the gateway that owns the journal.
 * @throws LedgerError `unavailable` when the database is away
 */
export async function retryDeadLetters(
  ledger: Ledger,
  root: string,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<RetryReport> {
  const report: RetryReport = { resolved: 0, refused: [] };
  for (const index of await listSlots(root, fileSystem)) {
    const file = new DeadLetterFile<DatedUsage>(slotDirectory(root, index), fileSystem);
    const { letters } = await file.read();
    const { resolved, refused } = await retryLetters(ledger, file, letters);
    report.resolved += resolved;
    report.refused.push(...refused);
  }
  return report;
}

export async function retryLetters(
  ledger: Ledger,
  file: DeadLetterFile<DatedUsage>,
  letters: readonly DeadLetter<DatedUsage>[],
): Promise<RetryReport> {
  const report: RetryReport = { resolved: 0, refused: [] };
  for (const { id, event } of letters) {
    try {
      await recordLate(ledger, event);
      await file.resolve([id]);
      report.resolved++;
    } catch (error) {
      const { code, message } = toLedgerError(error);
      if (code === 'unavailable' && !isOfOne(error)) throw error;
      report.refused.push({ id, reason: code, message });
    }
  }
  return report;
}
