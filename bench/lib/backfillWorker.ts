/** One backfill in a process of its own: `backfillWorker.ts <url> <workers> [from]`; answers in JSON. */
import { runBackfill } from '../../src/rollup/backfill.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';

const [url, workers, from] = process.argv.slice(2);
if (!url) throw new Error('usage: backfillWorker <url> <workers> [from]');
const report = await runBackfill({
  url,
  rollup: DAILY_ROLLUP,
  workers: Number(workers ?? 2),
  from,
});
process.stdout.write(
  JSON.stringify({
    durationMs: report.durationMs,
    rows: report.rows,
    longestTransactionMs: report.longestTransactionMs,
    peakMemoryMb: process.resourceUsage().maxRSS / 1024,
  }),
);
