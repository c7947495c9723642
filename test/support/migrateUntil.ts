import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';

const MIGRATIONS = path.join(import.meta.dirname, '../../drizzle');

/** Applies the first `count` migrations: the database of an earlier version. */
export async function migrateUntil(url: string, count: number): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'microdollar-migrations-'));
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    cpSync(MIGRATIONS, folder, { recursive: true });
    const file = path.join(folder, 'meta', '_journal.json');
    const journal = JSON.parse(readFileSync(file, 'utf8'));
    writeFileSync(file, JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }));
    await client.query('set search_path = public');
    await migrate(drizzle(client), {
      migrationsFolder: folder,
      migrationsTable: 'microdollar_migrations',
      migrationsSchema: 'public',
    });
  } finally {
    await client.end();
    rmSync(folder, { recursive: true, force: true });
  }
}
