import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { inject } from 'vitest';
import { openPool } from './openPool.js';
import { inTestSchema, TEST_SCHEMA } from './testSchema.js';

export interface TestDatabase {
  name: string;
  url: string;
  /** Ten connections, server defaults. */
  pool: pg.Pool;
  /** Ends the pool, and whoever else is connected. */
  drop(): Promise<void>;
}

/** The URL of another database on the same server. */
export function databaseUrl(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${encodeURIComponent(database)}`;
  return other.href;
}

let admin: pg.Pool | undefined;

/** Runs work on a connection to the run's maintenance database, which the process keeps. */
export async function asAdmin<Result>(
  work: (client: pg.PoolClient) => Promise<Result>,
): Promise<Result> {
  admin ??= openPool({
    connectionString: inject('postgresUrl'),
    max: 2,
    idleTimeoutMillis: 0,
    allowExitOnIdle: true,
  });
  const client = await admin.connect();
  try {
    return await work(client);
  } finally {
    client.release();
  }
}

export interface TestDatabaseOptions {
  /** Without tables. */
  empty?: boolean;
  /** Name of a database to copy that nobody is connected to. Default: the migrated one. */
  template?: string | undefined;
  /** `drop` only ends the pool: others will copy it. It goes with the run's server. */
  kept?: boolean | undefined;
}

/** A database of the test's own: a copy of the template. */
export async function createTestDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const name = `test_${process.pid}_${randomBytes(8).toString('hex')}`;
  const template = options.empty ? 'template0' : (options.template ?? inject('templateDatabase'));
  // By its files: what PostgreSQL caches of the catalog is copied as well, and not written twice.
  await asAdmin((client) =>
    client.query(`create database ${name} template ${template} strategy file_copy`),
  );
  const url = inTestSchema(databaseUrl(inject('postgresUrl'), name));
  const pool = openPool({ connectionString: url, max: 10 });
  if (options.empty && TEST_SCHEMA) await pool.query(`create schema "${TEST_SCHEMA}"`);
  return {
    name,
    url,
    pool,
    drop: async () => {
      await pool.end();
      if (options.kept) return;
      await asAdmin((client) => client.query(`drop database if exists ${name} with (force)`));
    },
  };
}

/**
 * A database that many tests begin with: `make` fills one that is `kept`, once a process of the run and
 * when it is first asked for, and leaves no connection to it; each test copies it.
 */
export function once<Made>(make: () => Promise<Made>): () => Promise<Made> {
  let made: Promise<Made> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
