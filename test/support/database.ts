import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { openPool } from './openPool.js';

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

/** Runs work on a connection to the run's maintenance database. */
export async function asAdmin<Result>(
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const client = new pg.Client({ connectionString: inject('postgresUrl') });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/**
 * A database of the test's own: a copy of the migrated template, or with `empty` a new one
 * without tables.
 */
export async function createTestDatabase(options: { empty?: boolean } = {}): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  const template = options.empty ? 'template0' : inject('templateDatabase');
  // By its files: what PostgreSQL caches of the catalog is copied as well, and not written twice.
  await asAdmin((client) =>
    client.query(`create database ${name} template ${template} strategy file_copy`),
  );
  const url = databaseUrl(inject('postgresUrl'), name);
  const pool = openPool({ connectionString: url, max: 10 });
  return {
    name,
    url,
    pool,
    drop: async () => {
      await pool.end();
      await asAdmin((client) => client.query(`drop database if exists ${name} with (force)`));
    },
  };
}
