import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';

const MIGRATIONS = path.join(import.meta.dirname, '../../drizzle');

/** Applies the first `count` migrations: the database of an earlier version. */
export function migrateUntil(url: string, count: number): Promise<void> {
  return migrateOtherwise(url, (entries) => entries.slice(0, count));
}

/** Applies all migrations, and one that this version does not know: the database of a newer one. */
export function migrateBeyond(url: string, next: { tag: string; sql: string }): Promise<void> {
  return migrateOtherwise(url, (entries, folder) => {
    writeFileSync(path.join(folder, `${next.tag}.sql`), next.sql);
    const last = entries.at(-1);
    if (!last) throw new Error('no migrations');
    return [...entries, { ...last, tag: next.tag, idx: last.idx + 1, when: last.when + 1 }];
  });
}

interface Entry {
  idx: number;
  when: number;
  tag: string;
}

async function migrateOtherwise(
  url: string,
  change: (entries: Entry[], folder: string) => Entry[],
): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'microdollar-migrations-'));
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    cpSync(MIGRATIONS, folder, { recursive: true });
    const file = path.join(folder, 'meta', '_journal.json');
    const journal = JSON.parse(readFileSync(file, 'utf8'));
    const entries = change(journal.entries, folder);
    writeFileSync(file, JSON.stringify({ ...journal, entries }));
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
