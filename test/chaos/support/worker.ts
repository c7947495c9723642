/**
 * One process of a run: `worker.ts <role> <url> <dir> <start, ms> <incarnation>`. Prints `ready`,
 * then works until its stdin ends, or until it is killed.
 */
import type { LedgerOptions } from '../../../src/ledgerTypes.js';
import { createRandom } from '../../faults/support/scale.js';
import { BookWriter } from './book.js';
import { runHolders } from './holderWork.js';
import { runHost } from './hostWork.js';
import { runLedger } from './ledgerWork.js';
import { runOperator } from './operatorWork.js';
import type { Work } from './work.js';

const [role = '', url = '', dir = '', start = '', incarnation = ''] = process.argv.slice(2);

const LEDGERS: Record<string, Omit<LedgerOptions, 'databaseUrl'>> = {
  'group commit': { backgroundVerify: true },
  'one a statement': { groupCommit: false, poolSize: 6 },
  'append always': { appendAlways: true, poolSize: 4, lockTimeoutMs: 1_000 },
};

const name = `${role} ${incarnation}`;
let isOver = false;
process.stdin.resume().on('end', () => {
  isOver = true;
});
const work: Work = {
  url,
  dir,
  book: new BookWriter(dir, name),
  random: createRandom(name),
  startMs: Number(start),
  isOver: () => isOver,
};

// Whatever ends a process that nobody killed is a finding.
process.on('uncaughtException', (error) => {
  work.book.problem(`${role}: uncaught ${error.stack?.slice(0, 600)}`);
  process.exit(1);
});

console.log('ready');
const options = LEDGERS[role];
if (options) await runLedger(work, options);
else if (role === 'host') await runHost(work);
else await Promise.all([runOperator(work), runHolders(work)]);
process.exit(0);
