/**
 * A process that archives: `archiveWorker.ts <url> <until> <directory>`, in files and transactions
 * of a few rows. Prints every step once it is durable, then the report as one line of JSON.
 */
import { archiveUsage } from '../../src/rollup/archive/archive.js';

const [url = '', until = '', directory = ''] = process.argv.slice(2);
const { costMicrodollars, ...report } = await archive();
process.stdout.write(
  `${JSON.stringify({ ...report, costMicrodollars: String(costMicrodollars) })}\n`,
);

/** Again where the machine stood still for a second in two transactions running. */
async function archive(): ReturnType<typeof archiveUsage> {
  const isTooSlow = (message: string) => message.includes('within a short transaction');
  for (;;) {
    try {
      const report = await archiveUsage({
        url,
        until,
        directory,
        withPersonalData: true,
        limits: { rowsPerFile: 40, rowsPerTransaction: 7 },
        onStep: (step) => process.stdout.write(`${step}\n`),
      });
      if (!report.failures.some(({ message }) => isTooSlow(message))) return report;
    } catch (error) {
      if (!isTooSlow(String(error))) throw error;
    }
  }
}
