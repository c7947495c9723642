import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import type { BenchDatabase } from './bench.js';

/** Something that one payer does, or suffers, for as long as a slice lasts. */
export interface Abuse {
  name: string;
  label: string;
  /** Once, before the timing. */
  prepare(database: BenchDatabase, ledger: Ledger): Promise<void>;
  /** Resolves once it goes on; `stop` once it has ended, with how often it was done. */
  begin(database: BenchDatabase, ledger: Ledger): Promise<{ stop(): Promise<number> }>;
}

const HELD_IDS = 4;
const EXTREME_COST = 10 ** 12;
/** The next event of the largest cost is more than a counter of 64 bits is given. */
const NEARLY_FULL = '9199999999999000000';

const abuser = (database: BenchDatabase, id: string) =>
  database.admin.query('insert into kilocode_users (id) values ($1)', [id]);

/** Calls again and again until it is stopped; what they end with is their caller's affair. */
function again(everyMs: number, call: () => Promise<unknown>): { stop(): Promise<number> } {
  let isOver = false;
  let calls = 0;
  const inFlight = new Set<Promise<unknown>>();
  const loop = (async () => {
    while (!isOver) {
      const one = call().catch(() => {});
      calls++;
      inFlight.add(one);
      void one.finally(() => inFlight.delete(one));
      await sleep(everyMs);
    }
  })();
  return {
    async stop() {
      isOver = true;
      await loop;
      await Promise.all(inFlight);
      return calls;
    },
  };
}

/** A connection of a host's, in a transaction until it is rolled back. */
async function openTransaction(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  await client.query('begin');
  return client;
}

async function rollBack(client: pg.Client): Promise<void> {
  await client.query('rollback');
  await client.end();
}

/** A host holds ids in an open transaction, while their redeliveries come. */
const twins: Abuse = {
  name: 'twins',
  label: `${HELD_IDS} ids held in an open transaction, each sent again 5 times a second`,
  prepare: async (database) => {
    await abuser(database, 'twin');
  },
  async begin(database, ledger) {
    const ids = Array.from({ length: HELD_IDS }, () => uuidv7()).sort();
    const event = (id: string) => ({ id, kilo_user_id: 'twin', cost: 1 });
    const holder = await openTransaction(database.url);
    for (const id of ids) await insertUsageAndMetadataWithBalanceUpdate(holder, event(id));
    let next = 0;
    const resent = again(1_000 / (5 * HELD_IDS), () =>
      ledger.recordUsage(event(ids[next++ % HELD_IDS] as string)),
    );
    return {
      async stop() {
        // What waits is let go first: a slice must not pay for the end of another.
        const ended = resent.stop();
        await rollBack(holder);
        return await ended;
      },
    };
  },
};

/** Somebody holds a payer's row and its day, while events of that payer come. */
const heldCounter: Abuse = {
  name: 'held-counter',
  label: "a payer's counter rows held in an open transaction, 20 events of that payer a second",
  prepare: async (database, ledger) => {
    await abuser(database, 'held');
    await ledger.recordUsage({ kilo_user_id: 'held', cost: 1 });
    await ledger.fold();
  },
  async begin(database, ledger) {
    const holder = await openTransaction(database.url);
    await holder.query(`select from kilocode_users where id = 'held' for update`);
    await holder.query(
      `select from microdollar_usage_daily where kilo_user_id = 'held' for update`,
    );
    const events = again(50, () => ledger.recordUsage({ kilo_user_id: 'held', cost: 1 }));
    return {
      async stop() {
        const calls = await events.stop();
        await rollBack(holder);
        return calls;
      },
    };
  },
};

/** One payer's sums leave 64 bits, and its events lie on days of ten years. */
const extremes: Abuse = {
  name: 'extremes',
  label: '20 events a second of the largest cost, over ten years, of a payer past 64 bits',
  prepare: async (database) => {
    await abuser(database, 'extreme');
    await database.admin.query(
      `update kilocode_users
       set microdollars_used = $1::bigint, opening_microdollars_used = $1::bigint
       where id = 'extreme'`,
      [NEARLY_FULL],
    );
  },
  async begin(_database, ledger) {
    let day = 0;
    return again(50, () => {
      const at = Date.UTC(2016, 0, 1 + (day++ % 3_600));
      return ledger.recordUsage({
        kilo_user_id: 'extreme',
        cost: EXTREME_COST,
        created_at: new Date(at).toISOString(),
      });
    });
  },
};

const HUGE_DAY = '2024-02-29';

/** A day of one payer with very many rows, verified without a rest. */
const hugeDay = (rows: number): Abuse => ({
  name: 'huge-day',
  label: `a day of one payer with ${rows.toLocaleString('en-US')} rows, verified again and again`,
  prepare: async (database) => {
    await abuser(database, 'huge');
    await database.admin.query(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       select gen_random_uuid(), 'huge', 1,
         $1::date::timestamp at time zone 'UTC' + i * interval '24 hours' / ($2::integer + 1)
       from generate_series(1, $2::integer) as i`,
      [HUGE_DAY, rows],
    );
    await database.admin.query(
      `insert into microdollar_usage_daily
         (kilo_user_id, usage_date, total_cost_microdollars) values ('huge', $1, $2)`,
      [HUGE_DAY, rows],
    );
    await database.admin.query(
      `update kilocode_users set microdollars_used = $1 where id = 'huge'`,
      [rows],
    );
    await database.admin.query('vacuum (analyze) microdollar_usage');
  },
  async begin(database) {
    const abort = new AbortController();
    let verified = 0;
    const loop = (async () => {
      while (!abort.signal.aborted) {
        await verifyRollup({
          url: database.url,
          rollup: DAILY_ROLLUP,
          from: HUGE_DAY,
          until: HUGE_DAY,
          workers: 1,
          signal: abort.signal,
        });
        verified++;
      }
    })();
    return {
      async stop() {
        abort.abort();
        await loop;
        return verified;
      },
    };
  },
});

export const abuses = (hugeDayRows: number): readonly Abuse[] => [
  twins,
  heldCounter,
  extremes,
  hugeDay(hugeDayRows),
];
