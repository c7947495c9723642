import pg from 'pg';
import type { EmbeddedPostgres } from '../../src/db/embedded.js';
import { startEmbeddedPostgres } from '../../src/testing.js';
import { createLookups, type LookupIds } from './baselines/statements.js';
import { CostMeter } from './cost.js';
import { type Environment, readEnvironment } from './environment.js';
import { growHistory } from './history.js';
import { eventSource, type Population, populate } from './population.js';

/** Durable, on a small machine; stated with every result. */
export const SERVER_SETTINGS: Readonly<Record<string, string>> = {
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  max_connections: '500',
  // A naive backfill in one statement takes a guard's lock per key of the rollup.
  max_locks_per_transaction: '512',
  shared_buffers: '1GB',
  max_wal_size: '8GB',
  checkpoint_timeout: '15min',
};

export interface BenchOptions {
  /** A short run to see that everything works; its figures are not kept. */
  quick: boolean;
  /** Measured seconds per approach; null: the scenario's own. */
  seconds: number | null;
  /** Names of the approaches to compare with the seed's; null: all. */
  approaches: readonly string[] | null;
  /** Also 30 million rows, where sizes matter. */
  large: boolean;
  /** Only a history of so many rows, where sizes matter; null: the scenario's own. */
  rows: number | null;
  log: (line: string) => void;
}

export interface BenchDatabase {
  name: string;
  url: string;
  /** Server defaults, a few connections. */
  admin: pg.Pool;
  lookups: LookupIds;
  drop(): Promise<void>;
}

/** What scenarios are given: one server for the whole run, databases of their own, and options. */
export class Bench {
  readonly options: BenchOptions;
  readonly environment: Environment;
  readonly meter: CostMeter;
  readonly #server: EmbeddedPostgres;
  readonly #maintenance: pg.Pool;
  #databases = 0;
  #history: { database: BenchDatabase; rows: number } | null = null;

  private constructor(options: BenchOptions, server: EmbeddedPostgres, environment: Environment) {
    this.options = options;
    this.#server = server;
    this.environment = environment;
    this.#maintenance = new pg.Pool({ connectionString: this.#urlOf('postgres'), max: 2 });
    this.#maintenance.on('error', () => {});
    this.meter = new CostMeter(server.pid, this.#maintenance);
  }

  static async start(options: BenchOptions): Promise<Bench> {
    const server = await startEmbeddedPostgres({ settings: SERVER_SETTINGS });
    const environment = await readEnvironment(server.url, SERVER_SETTINGS);
    return new Bench(options, server, environment);
  }

  /** The value for a full run, or the one for `--quick`. */
  pick<T>(full: T, quick: T): T {
    return this.options.quick ? quick : full;
  }

  log(line: string): void {
    this.options.log(line);
  }

  /** An empty migrated database. */
  async createDatabase(): Promise<BenchDatabase> {
    return this.#clone('microdollar');
  }

  /** Databases with the population's accounts, all alike. */
  async createDatabases(population: Population, count: number): Promise<BenchDatabase[]> {
    const first = await this.createDatabase();
    await populate(first.admin, population);
    const sample = Array.from({ length: 500 }, eventSource(population, 1));
    const lookups = await createLookups(first.admin, sample);
    await first.admin.end();
    const databases: BenchDatabase[] = [];
    for (let index = 1; index < count; index++) {
      databases.push({ ...(await this.#clone(first.name)), lookups });
    }
    return [{ ...this.#open(first.name), lookups }, ...databases];
  }

  /** A database with at least so many rows of usage; grown, and kept for the next scenario. */
  async history(rows: number): Promise<BenchDatabase> {
    const history = this.#history ?? { database: await this.createDatabase(), rows: 0 };
    this.#history = history;
    if (history.rows < rows) {
      this.log(`  growing the history from ${history.rows} to ${rows} rows`);
      await growHistory(history.database, history.rows, rows);
      history.rows = rows;
    }
    return history.database;
  }

  /** Between scenarios: none pays for what another has left to write. */
  async checkpoint(): Promise<void> {
    await this.#maintenance.query('checkpoint');
  }

  async stop(): Promise<void> {
    await this.#history?.database.drop();
    await this.#maintenance.end();
    await this.#server.stop();
  }

  async #clone(template: string): Promise<BenchDatabase> {
    const name = `bench_${++this.#databases}`;
    await this.#maintenance.query(`create database ${name} template ${template}`);
    return this.#open(name);
  }

  #open(name: string): BenchDatabase {
    const url = this.#urlOf(name);
    const admin = new pg.Pool({ connectionString: url, max: 4 });
    admin.on('error', () => {});
    const drop = async () => {
      await admin.end();
      await this.#maintenance.query(`drop database ${name} with (force)`);
    };
    return { name, url, admin, lookups: new Map(), drop };
  }

  #urlOf(database: string): string {
    const url = new URL(this.#server.url);
    url.pathname = `/${database}`;
    return url.href;
  }
}
