import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { placesOf } from '../../src/db/embedded/cluster.js';
import { startEmbeddedPostgres } from '../../src/db/embedded.js';
import { migrate } from '../../src/db/migrate.js';
import { THROWAWAY_SETTINGS } from '../../src/testing/throwaway.js';
import { partitionFully } from './partitioned.js';
import { inTestSchema } from './testSchema.js';

/** Thousands of connections, and a password that nobody could guess. */
const CHEAP_LOGIN = { scram_iterations: '1' };

/**
 * A data directory whose server was made, migrated and stopped; initdb is most of a first start. Once a
 * run: the servers of tests that are not about making one are copies of it.
 */
export async function makeCluster(): Promise<string> {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-made-'));
  try {
    const settings = { ...THROWAWAY_SETTINGS, ...CHEAP_LOGIN };
    const server = await startEmbeddedPostgres({ dataDir, settings });
    try {
      await restatePassword(server.url);
      const migrated = inTestSchema(server.url);
      await migrate(migrated);
      if (process.env.MICRODOLLAR_TEST_PARTITIONED) await partitionFully(migrated);
    } finally {
      await server.stop();
    }
    trustSocket(dataDir);
    return dataDir;
  } catch (error) {
    rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
    throw error;
  }
}

/** The cluster in `from`, stopped, to `to`, which has none. Its system identifier stays. */
export function copyCluster(from: string, to: string): void {
  execFileSync('cp', ['-a', path.join(from, 'postgres'), to]);
}

/**
 * Whoever reaches the socket in its cluster is let in, as nobody but us reaches it: a login by password is
 * half of what a connection costs. Over TCP it takes the password.
 */
function trustSocket(dataDir: string): void {
  const file = path.join(placesOf(dataDir).cluster, 'pg_hba.conf');
  const rules = readFileSync(file, 'utf8');
  writeFileSync(file, rules.replace(/^(local\s.*)scram-sha-256$/gm, '$1trust'));
}

/** Stored anew, under the server's settings. */
async function restatePassword(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(
      `alter role current_user password ${pg.escapeLiteral(new URL(url).password)}`,
    );
  } finally {
    await client.end();
  }
}
