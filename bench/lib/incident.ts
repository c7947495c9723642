import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createLedger } from '../../src/ledger.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { seedStatementText } from './baselines/seed.js';
import { dropGuards, eventStatement } from './baselines/statements.js';
import { ledgerDifferences } from './baselines/totals.js';
import type { BenchDatabase } from './bench.js';
import { type BenchEvent, userId } from './population.js';

/** Connections of the application, for everything it does. */
export const POOL_SIZE = 10;
export const HOLD_MS = 300;

/** An application that writes usage, and does something else on the same pool. */
export interface Application {
  label: string;
  kind: 'ours' | 'alternative';
  pool: pg.Pool;
  write(event: BenchEvent): Promise<unknown>;
  differences(): Promise<string[]>;
  close(): Promise<void>;
}

export type OpenApplication = (database: BenchDatabase) => Promise<Application>;

const openPool = (url: string) => {
  const pool = new pg.Pool({ connectionString: url, max: POOL_SIZE });
  pool.on('error', () => {});
  return pool;
};

export const openSeed: OpenApplication = async ({ url, admin, lookups }) => {
  await dropGuards(admin);
  const pool = openPool(url);
  return {
    label: "the seed's statement",
    kind: 'alternative',
    pool,
    async write(event) {
      const { name, text } = seedStatementText(event.organization_id);
      await pool.query(eventStatement(name, text, event, lookups));
    },
    differences: () => ledgerDifferences(admin),
    close: () => pool.end(),
  };
};

/** The library's write on the application's own pool; the fold runs in a ledger beside it. */
export const openOurs: OpenApplication = async ({ url, admin }) => {
  const pool = openPool(url);
  const ledger = await createLedger({ databaseUrl: url, poolSize: 2 });
  return {
    label: 'microdollar',
    kind: 'ours',
    pool,
    write: ({ metadata, ...core }) => insertUsageAndMetadataWithBalanceUpdate(pool, core, metadata),
    async differences() {
      await ledger.fold();
      return ledgerDifferences(admin);
    },
    async close() {
      await ledger.close();
      await pool.end();
    },
  };
};

/**
 * Another program: updates the user's counter and holds its transaction open, again and again. It
 * adds 0, so that the totals stay comparable with raw usage.
 */
export class Holder {
  readonly #client: pg.Client;
  #isRunning = true;
  #done: Promise<void> = Promise.resolve();
  holds = 0;

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  static async start(url: string): Promise<Holder> {
    const client = new pg.Client({ connectionString: url, application_name: 'bench holder' });
    client.on('error', () => {});
    await client.connect();
    const holder = new Holder(client);
    holder.#done = holder.#run();
    return holder;
  }

  async #run(): Promise<void> {
    while (this.#isRunning) {
      await this.#client.query('begin');
      await this.#client.query(
        'update kilocode_users set microdollars_used = microdollars_used + 0 where id = $1',
        [userId(0)],
      );
      await sleep(HOLD_MS);
      await this.#client.query('commit');
      this.holds++;
    }
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#done;
    await this.#client.end();
  }
}

/** Samples who of the application waits for which lock, and how many of its connections wait. */
export class LockSampler {
  readonly #admin: pg.Pool;
  readonly #holderName = 'bench holder';
  #isRunning = true;
  #done: Promise<void>;
  samples = 0;
  /** Samples by what was waited for, such as `transactionid` or `tuple kilocode_users`. */
  readonly waits = new Map<string, number>();
  maxWaiting = 0;

  constructor(admin: pg.Pool, everyMs = 25) {
    this.#admin = admin;
    this.#done = this.#run(everyMs);
  }

  async #run(everyMs: number): Promise<void> {
    while (this.#isRunning) {
      const result = await this.#admin.query<{ kind: string; pid: number }>(
        `select l.locktype || coalesce(' ' || l.relation::regclass::text, '') as kind, l.pid
        from pg_locks as l
        join pg_stat_activity as a on a.pid = l.pid
        where not l.granted
          and a.datname = current_database()
          and a.application_name <> $1`,
        [this.#holderName],
      );
      this.samples++;
      this.maxWaiting = Math.max(this.maxWaiting, result.rows.length);
      for (const kind of new Set(result.rows.map((row) => row.kind))) {
        this.waits.set(kind, (this.waits.get(kind) ?? 0) + 1);
      }
      await sleep(everyMs);
    }
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#done;
  }
}
