/**
 * One process of the contention test: `contentionWorker.ts <databaseUrl> <process number>`. Reads a
 * ContentionJob a line on stdin, opens a ledger of its own, prints `ready`, waits for a line (so
 * that all processes begin together, however long each took to start), and prints a WorkerReport.
 */
import { createInterface } from 'node:readline';
import type pg from 'pg';
import { createLedger } from '../../src/ledger.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { BatchResult, RecordedEvent, UsageEvent } from '../../src/record/types.js';
import {
  type ContentionJob,
  DUPLICATE_EVERY,
  eventOf,
  eventRange,
  type WorkerReport,
} from './contentionWorkload.js';
import { openPool } from './openPool.js';

const [databaseUrl = '', processNumber = '0'] = process.argv.slice(2);
const worker = Number(processNumber);
const lines = createInterface(process.stdin)[Symbol.asyncIterator]();

type Tally = Pick<WorkerReport, 'recorded' | 'duplicates' | 'errors'>;

function note(
  tally: Tally,
  result: BatchResult<RecordedEvent>,
  wanted: string,
  expectedCreatedAt?: string,
) {
  if (result.status === 'rejected') tally.errors.push(result.error.message);
  else if (result.id !== wanted) tally.errors.push(`answer for ${result.id}, not ${wanted}`);
  else if (expectedCreatedAt && Date.parse(result.created_at) !== Date.parse(expectedCreatedAt)) {
    tally.errors.push(`created_at ${result.created_at}, not ${expectedCreatedAt}`);
  } else if (result.status === 'duplicate') tally.duplicates++;
  else tally.recorded++;
}

/** A way to write, in this process. */
interface Writer {
  record(event: UsageEvent): Promise<RecordedEvent>;
  recordBatch(events: UsageEvent[]): Promise<BatchResult<RecordedEvent>[]>;
  /** SQLSTATE of statements that were sent again. */
  retries(): Promise<Record<string, number>>;
  pool: pg.Pool;
  close(): Promise<void>;
}

function onHostPool(): Writer {
  const pool = openPool({ connectionString: databaseUrl, max: 8 });
  const record = (event: UsageEvent) => insertUsageAndMetadataWithBalanceUpdate(pool, event);
  return {
    record,
    recordBatch: (events) => Promise.all(events.map(record)),
    retries: async () => ({}),
    pool,
    close: () => pool.end(),
  };
}

async function openLedger(job: ContentionJob): Promise<Writer> {
  const ledger = await createLedger({
    databaseUrl,
    poolSize: 8,
    appendAlways: job.appendAlways ?? false,
    groupCommit: job.groupCommit ?? true,
  });
  const without = { balance: false } as const;
  const answers = job.through === undefined;
  return {
    record: (event) => (answers ? ledger.recordUsage(event) : ledger.recordUsage(event, without)),
    recordBatch: (events) =>
      answers ? ledger.recordUsageBatch(events) : ledger.recordUsageBatch(events, without),
    retries: async () => {
      const { values } = await ledger.metrics.retries.get();
      return Object.fromEntries(values.map((each) => [each.labels.cause, each.value]));
    },
    pool: ledger.pool,
    close: () => ledger.close(),
  };
}

/** One caller: its share of the events, one at a time; some are sent again once answered. */
async function runCaller(writer: Writer, job: ContentionJob, caller: number, tally: Tally) {
  const { from } = eventRange(job, worker);
  const first = from + caller * job.eventsPerCaller;
  for (let index = first; index < first + job.eventsPerCaller; index++) {
    const event = eventOf(job, index);
    const result = await writer.record(event);
    note(tally, result, event.id, event.created_at as string);
    if (index % DUPLICATE_EVERY !== 0) continue;
    const again = await writer.record(event);
    note(tally, again, event.id, result.created_at);
    if (again.status !== 'duplicate') tally.errors.push(`${event.id} was recorded twice`);
  }
}

/** As twins: every process sends every event, odd ones backwards, every other caller in a batch. */
async function runTwinCaller(writer: Writer, job: ContentionJob, caller: number, tally: Tally) {
  const numbers = Array.from({ length: job.eventsPerCaller }, (_, index) => index * job.callers);
  if (worker % 2 === 1) numbers.reverse();
  const events = numbers.map((number) => eventOf(job, number + caller));
  if (caller % 2 === 0) {
    const results = await writer.recordBatch(events);
    results.forEach((result, index) => {
      note(tally, result, events[index]?.id ?? '', events[index]?.created_at as string);
    });
    return;
  }
  for (const event of events) {
    note(tally, await writer.record(event), event.id, event.created_at as string);
  }
}

async function run(job: ContentionJob): Promise<WorkerReport> {
  const writer = job.through === 'pool' ? onHostPool() : await openLedger(job);
  console.log(JSON.stringify('ready'));
  await lines.next();
  const tally: Tally = { recorded: 0, duplicates: 0, errors: [] };
  const runOne = job.duplicates === 'twins' ? runTwinCaller : runCaller;
  try {
    await Promise.all(
      Array.from({ length: job.callers }, async (_, caller) => {
        try {
          await runOne(writer, job, caller, tally);
        } catch (error) {
          tally.errors.push(String(error));
        }
      }),
    );
    const zone = await writer.pool.query(`select current_setting('timezone') as zone`);
    return {
      ...tally,
      errors: tally.errors.slice(0, 10),
      retries: await writer.retries(),
      offsetMinutes: new Date(0).getTimezoneOffset(),
      sessionTimeZone: zone.rows[0].zone,
    };
  } finally {
    await writer.close();
  }
}

for (;;) {
  const { value, done } = await lines.next();
  if (done) break;
  console.log(JSON.stringify(await run(JSON.parse(value))));
}
