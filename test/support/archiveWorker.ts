/**
 * A process that archives: `archiveWorker.ts <url> <until> <directory>`, in files and transactions
 * of a few rows. Prints every step once it is durable, then the report as one line of JSON.
 */
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { archiveInTime } from './archiveInTime.js';

const [url = '', until = '', directory = ''] = process.argv.slice(2);
const { costMicrodollars, ...report } = await archiveInTime(() =>
  archiveUsage({
    url,
    until,
    directory,
    withPersonalData: true,
    limits: { rowsPerFile: 40, rowsPerTransaction: 7 },
    onStep: (step) => process.stdout.write(`${step}\n`),
  }),
);
process.stdout.write(
  `${JSON.stringify({ ...report, costMicrodollars: String(costMicrodollars) })}\n`,
);
