import type { ArchiveReport } from '../../src/rollup/archive/types.js';

const isTooSlow = (message: string) => message.includes('within a short transaction');

/** Archives again where a busy machine stood still for a second in a transaction of one row. */
export async function archiveInTime(archive: () => Promise<ArchiveReport>): Promise<ArchiveReport> {
  for (;;) {
    try {
      const report = await archive();
      if (!report.failures.some(({ message }) => isTooSlow(message))) return report;
    } catch (error) {
      if (!isTooSlow(String(error))) throw error;
    }
  }
}
