/**
 * One process of the contention test of holds: `holdWorker.ts <databaseUrl> <HoldJob as JSON>`. Opens
 * a ledger of its own, prints `ready`, waits for a line, and prints a HoldReport.
 */
import { once } from 'node:events';
import { createLedger } from '../../src/ledger.js';
import { createRandom, type Random } from './random.js';

export interface HoldJob {
  seed: number;
  process: number;
  callers: number;
  holdsPerCaller: number;
  /** Who pays with whom, for what. */
  requests: readonly {
    kilo_user_id: string;
    organization_id: string | null;
    api_key_id: string | null;
    project_id: string | null;
  }[];
  largest: number;
}

export interface HoldReport {
  granted: number;
  refused: number;
  errors: string[];
}

const MAX_TRIES = 10;
const [databaseUrl = '', jobText = '{}'] = process.argv.slice(2);
const job = JSON.parse(jobText) as HoldJob;
const ledger = await createLedger({ databaseUrl, poolSize: 4 });
const report: HoldReport = { granted: 0, refused: 0, errors: [] };
console.log('ready');
await once(process.stdin, 'data');
await Promise.all(Array.from({ length: job.callers }, (_, caller) => call(caller)));
await ledger.close();
console.log(JSON.stringify(report));
process.exit(0);

async function call(caller: number): Promise<void> {
  const random = createRandom(job.seed, `${job.process}/${caller}`);
  for (let n = 0; n < job.holdsPerCaller; n++) {
    try {
      await holdOnce(random);
    } catch (error) {
      report.errors.push(String(error));
    }
  }
}

/** Asked for again where processes without a processor had a row for too long, as a client would. */
async function inTime<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      if (tries === MAX_TRIES || !String(error).includes('try again')) throw error;
    }
  }
}

/** Held, sometimes extended or asked for again, then settled for less, released, or left behind. */
async function holdOnce(random: Random): Promise<void> {
  const request = random.pick(job.requests);
  const wanted = random.between(0, job.largest);
  const hold = await inTime(() => ledger.hold({ ...request, amount: wanted }));
  if (hold.status === 'refused') {
    report.refused++;
    return;
  }
  report.granted++;
  let { amount } = hold;
  if (random.next() < 0.2) {
    const more = amount + random.between(1, job.largest);
    amount = (await inTime(() => ledger.extend(hold.id, more))).amount;
  }
  if (random.next() < 0.1) await inTime(() => ledger.hold({ ...request, id: hold.id, amount }));
  const end = random.next();
  if (end < 0.8) {
    const event = { ...request, cost: random.between(0, amount + 1) };
    await ledger.settle(hold.id, event);
    if (random.next() < 0.1) await ledger.settle(hold.id, event);
  } else if (end < 0.95) {
    await inTime(() => ledger.release(hold.id));
  }
}
