import pg from 'pg';
import { schemaOf } from '../../src/db/ledgerSchema.js';
import { describeShape } from '../../src/db/migrate/describeShape.js';
import { readShape } from '../../src/db/migrate/readShape.js';
import type { SchemaShape } from '../../src/db/migrate/shape.js';

/** The schema of a database, from its catalog. */
export async function readDatabase(url: string): Promise<SchemaShape> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(`set search_path = "${schemaOf(url)}"`);
    return await readShape(client);
  } finally {
    await client.end();
  }
}

/** The same in the form of drizzle/schema.txt. */
export async function describeDatabase(url: string): Promise<string> {
  return describeShape(await readDatabase(url));
}
