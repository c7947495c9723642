import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../../src/record/onExecutor.js';
import type { RecordResult } from '../../../src/record/types.js';
import { openPool } from '../../support/openPool.js';
import { SEED_UPSERT } from '../../support/seedUpsert.sql.js';
import { now } from './book.js';
import { FOREIGN, PEOPLE } from './cast.js';
import { type ChaosEvent, DAY_MS, drawEvent, drawMetadata } from './events.js';
import { noteAnswer, noteFailure, noteSent, repeat, type Work } from './work.js';

const CALLERS = 6;
const SESSION = `set lock_timeout = '3s'; set timezone = 'Asia/Kathmandu'`;

/** A host application's process: its own pool, its own transactions, and old programs. */
export async function runHost(work: Work): Promise<void> {
  const pool = openPool({
    connectionString: work.url,
    max: CALLERS,
    application_name: 'host application',
    query_timeout: 15_000,
    connectionTimeoutMillis: 5_000,
  });
  const step = async () => {
    const drawn = work.random.next();
    if (drawn < 0.4) await writeInPlace(work, pool);
    else if (drawn < 0.8) await withClient(work, (client) => writeInTransaction(work, client));
    else await withClient(work, (client) => writeAsBefore(work, client));
    await sleep(work.random.between(0, 15));
  };
  await Promise.all(Array.from({ length: CALLERS }, () => repeat(work, 'host', step)));
  await pool.end();
}

async function withClient(work: Work, use: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({
    connectionString: work.url,
    application_name: 'host application',
    query_timeout: 15_000,
    connectionTimeoutMillis: 5_000,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query(SESSION);
    await use(client);
  } finally {
    await client.end().catch(() => {});
  }
}

async function writeInPlace(work: Work, pool: pg.Pool): Promise<void> {
  const event = drawEvent(work.random, work.startMs);
  noteSent(work, 'usage', event);
  const from = now();
  try {
    const metadata = drawMetadata(work.random);
    const answer = await insertUsageAndMetadataWithBalanceUpdate(pool, event, metadata);
    noteAnswer(work, 'in place', event, answer, { from });
  } catch (error) {
    noteFailure(work, 'in place', error);
  }
}

interface Written {
  event: ChaosEvent;
  answer: RecordResult;
  from: number;
  own: string[];
}

/** Some events, each in a savepoint that may be rolled back; noted as answered by a commit only. */
async function writeInTransaction(work: Work, client: pg.Client): Promise<void> {
  const { random, startMs } = work;
  const kept: Written[] = [];
  const events = Array.from({ length: random.between(1, 6) }, () => drawEvent(random, startMs));
  await client.query('begin');
  // In order of their ids, as two transactions that share some must.
  for (const event of events.sort((a, b) => (a.id < b.id ? -1 : 1))) {
    await client.query('savepoint one');
    noteSent(work, 'usage', event);
    const from = now();
    try {
      const metadata = drawMetadata(random);
      const answer = await insertUsageAndMetadataWithBalanceUpdate(client, event, metadata);
      const own = [...kept.map((each) => each.event.id), event.id];
      if (random.next() < 0.25) await client.query('rollback to savepoint one');
      else kept.push({ event, answer, from, own });
    } catch (error) {
      noteFailure(work, 'transaction', error);
      await client.query('rollback to savepoint one');
    }
  }
  if (random.next() < 0.4) await sleep(random.between(0, 400));
  if (random.next() < 0.04) await sleep(2_000);
  const way = await endTransaction(work, client);
  if (way === null) return;
  for (const { event, answer, from, own } of kept) {
    noteAnswer(work, way, event, answer, { from, own });
  }
}

/** @returns how it was committed; null: rolled back */
async function endTransaction({ random }: Work, client: pg.Client): Promise<string | null> {
  const drawn = random.next();
  if (drawn < 0.3) {
    await client.query('rollback');
    return null;
  }
  if (drawn > 0.4) {
    await client.query('commit');
    return 'transaction';
  }
  const name = `'chaos ${randomUUID()}'`;
  await client.query(`prepare transaction ${name}`);
  await sleep(random.between(0, 500));
  const isKept = random.next() < 0.5;
  await client.query(`${isKept ? 'commit' : 'rollback'} prepared ${name}`);
  return isKept ? 'prepared' : null;
}

/** The seed's statement, which upserts both sums; or a program that knows no sums at all. */
async function writeAsBefore(work: Work, client: pg.Client): Promise<void> {
  const { random, startMs } = work;
  const knowsSums = random.next() < 0.7;
  const midnight = Math.floor(startMs / DAY_MS) * DAY_MS;
  const event: ChaosEvent = {
    id: randomUUID(),
    kilo_user_id: random.pick(knowsSums ? PEOPLE : FOREIGN),
    organization_id: null,
    cost: random.between(-500, 5_000),
    created_at: new Date(random.next() < 0.3 ? midnight - 1 : startMs).toISOString(),
  };
  noteSent(work, 'usage', event);
  const text = knowsSums
    ? SEED_UPSERT
    : `insert into microdollar_usage (id, kilo_user_id, cost, created_at) values ($1, $2, $3, $4)`;
  if (random.next() < 0.3) await client.query('begin');
  await client.query(text, [event.id, event.kilo_user_id, event.cost, event.created_at]);
  await sleep(random.between(0, 50));
  await client.query('commit');
  const answer = { id: event.id, status: 'recorded', created_at: event.created_at ?? '' } as const;
  const way = knowsSums ? 'seed' : 'raw';
  noteAnswer(work, way, event, answer, { from: now() });
}
