import { readFileSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { placesOf } from '../../src/db/embedded/cluster.js';

/** Runs statements one by one on the server that another process runs in the data directory. */
export async function queryEmbedded(
  dataDir: string,
  ...statements: string[]
): Promise<Record<string, unknown>[]> {
  const { cluster, password } = placesOf(dataDir);
  const port = readFileSync(path.join(cluster, 'postmaster.pid'), 'utf8').split('\n')[3];
  const secret = readFileSync(password, 'utf8').trim();
  const connectionString = `postgres://postgres:${secret}@127.0.0.1:${port}/microdollar`;
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    let rows: Record<string, unknown>[] = [];
    for (const statement of statements) ({ rows } = await client.query(statement));
    return rows;
  } finally {
    await client.end();
  }
}
