import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import { migrate } from '../../src/db/migrate.js';
import { sqlStateOf } from '../../src/db/sqlstate.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import {
  createDatabaseBeforeLog,
  recordBeforeLog,
  recordExaBeforeLog,
} from '../support/beforeLog.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { openPool } from '../support/openPool.js';
import {
  type Answer,
  ClientBook,
  EXA_ALLOWANCE_MICRODOLLARS,
  type SentEvent,
} from './support/clientBook.js';
import { createRandom, IS_LONG, type Random } from './support/scale.js';
import {
  Ambiguous,
  createAccounts,
  insertAccounts,
  type Send,
  startTraffic,
  untilMoreAnswers,
} from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughLibrary } from './support/ways.js';

const ROUNDS = IS_LONG ? 20 : inForm(1, 2);
const ROUNDS_AGAIN = IS_LONG ? 40 : inForm(2, 4);
const KILLS_PER_ROUND = IS_LONG ? 20 : 4;

let database: TestDatabase;

afterEach(() => database.drop());

/** What a statement of an old program says once its table or function is gone. */
const GONE: ReadonlySet<string | null> = new Set(['42883', '42P01', 'XX000']);

interface RollingDeploy {
  /** Connections of the old programs. */
  old: pg.Pool;
  /** One of this version, once it can be opened. */
  ledger: () => Promise<Ledger>;
  random: Random;
}

/**
 * A deployment that rolls: a client speaks to a program of before the log until that fails, and
 * sends the same events, by the same ids, to one of this version from then on.
 */
function throughRollingDeploy({ old, ledger, random }: RollingDeploy): Send {
  let isNew = false;
  return async (events) => {
    if (isNew) {
      const opened = await ledger().catch((error) => {
        throw new Ambiguous(String(error));
      });
      return throughLibrary(() => opened)(events);
    }
    try {
      return await sendToOldProgram(old, random, events);
    } catch (error) {
      isNew = GONE.has(sqlStateOf(error));
      throw new Ambiguous(String(error));
    }
  };
}

/** In place where it can; or in a transaction of a host's own, which appends, and idles. */
async function sendToOldProgram(
  old: pg.Pool,
  random: Random,
  events: readonly SentEvent[],
): Promise<Answer[]> {
  const client = await old.connect();
  const isOwn = random.next() < 0.3;
  try {
    if (isOwn) await client.query('begin');
    const answers: Answer[] = [];
    for (const { kind, ...event } of events) {
      const inPlace = !isOwn && random.next() < 0.5;
      const answer =
        kind === 'usage'
          ? await recordBeforeLog(client, event, inPlace)
          : await recordExaBeforeLog(client, event, {
              inPlace,
              allowance: EXA_ALLOWANCE_MICRODOLLARS,
            });
      answers.push({ ...answer, id: event.id } as Answer);
    }
    if (isOwn) await sleep(random.between(0, 150));
    if (isOwn) await client.query('commit');
    return answers;
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}

/** The newest month's allowance becomes the database's own: so there has to be a month. */
async function chargeExa(book: ClientBook, send: Send, kiloUserId: string): Promise<void> {
  const event: SentEvent = {
    kind: 'exa',
    id: randomUUID(),
    kilo_user_id: kiloUserId,
    organization_id: null,
    cost: 5,
  };
  book.send(event);
  for (const answer of await send([event])) book.acknowledge(answer as Answer);
}

/** Ends whoever migrates at random moments, so many times; then lets it be done. */
async function migrateInSpiteOfKills(url: string, random: Random): Promise<void> {
  let isDone = false;
  const killing = (async () => {
    for (let kill = 0; kill < KILLS_PER_ROUND && !isDone; kill++) {
      await sleep(random.between(20, 400));
      await database.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'microdollar migrate' and datname = current_database()`,
      );
    }
  })();
  const process = async () => {
    for (;;) {
      const result = await migrate(url).catch(() => null);
      if (result !== null) return result.applied.length;
    }
  };
  const applied = await Promise.all([process(), process(), process()]);
  isDone = true;
  await killing;
  expect(applied.filter((count) => count > 0).length).toBeLessThanOrEqual(1);
}

describe('migrations while writers run', () => {
  it(
    'from the versions before the log, ended at random: each event once, whoever recorded it',
    async () => {
      for (let round = 0; round < ROUNDS; round++) {
        database = await createDatabaseBeforeLog();
        const { url } = database;
        const random = createRandom(`migration ${round}`);
        const book = new ClientBook();
        const accounts = await insertAccounts(database.pool);
        const old = openPool({ connectionString: url, max: 6 });
        let opened: Promise<Ledger> | null = null;
        const ledger = () => {
          opened ??= createLedger({ databaseUrl: url }).catch((error) => {
            opened = null;
            throw error;
          });
          return opened;
        };
        const send = throughRollingDeploy({ old, ledger, random });
        await chargeExa(book, send, accounts.users[0] ?? '');
        const streams = [1, 2].map(() =>
          startTraffic({ book, random, accounts, clients: 3, send, maxBatch: 3, exa: true }),
        );
        await untilMoreAnswers(book);
        await migrateInSpiteOfKills(url, random);
        await untilMoreAnswers(book, 60);
        await Promise.all(streams.map((stream) => stream.stop()));
        await (await ledger()).close();
        await old.end();
        await expectNothingLost(book, database);
        if (round < ROUNDS - 1) await database.drop();
      }
    },
    180_000 + ROUNDS * 30_000,
  );

  it('again and again, by several at once, of a schema that is up to date: nobody notices', async () => {
    database = await createTestDatabase();
    const random = createRandom('migration again');
    const book = new ClientBook();
    const accounts = await createAccounts(database.pool);
    const ledger = await createLedger({ databaseUrl: database.url, lockTimeoutMs: 200 });
    const send = throughLibrary(() => ledger);
    const traffic = startTraffic({
      ...{ book, random, accounts, send },
      clients: 8,
      maxBatch: 4,
      exa: true,
    });
    for (let round = 0; round < ROUNDS_AGAIN; round++) {
      const results = await Promise.all([1, 2, 3].map(() => migrate(database.url)));
      expect(results.flatMap(({ applied }) => applied)).toEqual([]);
      await sleep(random.between(0, 20));
    }
    await untilMoreAnswers(book);
    await traffic.stop();
    await ledger.close();
    await expectNothingLost(book, database);
  });
});
