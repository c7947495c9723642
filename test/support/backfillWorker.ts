/** Runs one backfill in a process of its own: `backfillWorker.ts <url>`. Meant to be killed. */
import { runBackfill } from '../../src/rollup/backfill.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';

const [url] = process.argv.slice(2);
if (!url) throw new Error('usage: backfillWorker <url>');
process.stdout.write('started\n');
const report = await runBackfill({ url, rollup: DAILY_ROLLUP });
const rssMb = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`${JSON.stringify({ periods: report.periods, rows: report.rows, rssMb })}\n`);
