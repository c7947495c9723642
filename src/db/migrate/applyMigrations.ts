import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { isLockConflict } from '../sqlstate.js';
import { rootOf } from './connection.js';
import { MIGRATIONS_TABLE, type Migration, migrationsFolder } from './journal.js';
import { forSchema, readSchemaPlace } from './schemaPlace.js';

/** All in one transaction: all or nothing. */
export async function applyMigrations(
  client: pg.Client,
  unapplied: readonly Migration[],
  options: { attempts: number; log: (message: string) => void },
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query('begin');
      await runMigrations(client, unapplied);
      await client.query('commit');
      return;
    } catch (error) {
      await client.query('rollback').catch(() => {});
      const isContended = isLockConflict(rootOf(error));
      if (!isContended || attempt >= options.attempts) throw error;
      options.log(
        `a table is in use (attempt ${attempt} of ${options.attempts}); trying again to apply ` +
          unapplied.map((migration) => migration.name).join(', '),
      );
      await sleep(Math.min(200 * attempt, 2_000));
    }
  }
}

/**
 * What drizzle's migrator does with its files, in a schema that it knows nothing of, which is made
 * where there is none. In the caller's transaction.
 */
export async function runMigrations(
  client: pg.Client,
  migrations: readonly Migration[],
): Promise<void> {
  const place = await readSchemaPlace(client);
  if (!place.exists) await client.query(`create schema ${place.identifier}`);
  await client.query(CREATE_JOURNAL);
  const wanted = new Set(migrations.map((migration) => migration.createdAtMs));
  for (const file of await readMigrations()) {
    if (!wanted.has(file.folderMillis)) continue;
    for (const statement of file.sql) await client.query(forSchema(statement, place));
    await noteApplied(client, file);
  }
}

/** Notes all migrations as applied, as if they had been run. In the caller's transaction. */
export async function recordAllApplied(client: pg.Client): Promise<void> {
  await client.query(CREATE_JOURNAL);
  for (const file of await readMigrations()) {
    await noteApplied(client, file);
  }
}

/** Loaded here, for most commands find nothing to apply. */
async function readMigrations() {
  const { readMigrationFiles } = await import('drizzle-orm/migrator');
  return readMigrationFiles({ migrationsFolder: migrationsFolder() });
}

/** As drizzle's migrator makes it. */
const CREATE_JOURNAL = `create table if not exists ${MIGRATIONS_TABLE}
  (id serial primary key, hash text not null, created_at bigint)`;

async function noteApplied(
  client: pg.Client,
  file: { hash: string; folderMillis: number },
): Promise<void> {
  await client.query(
    `insert into ${MIGRATIONS_TABLE} (hash, created_at)
    select $1, $2
    where not exists (select from ${MIGRATIONS_TABLE} where created_at = $2)`,
    [file.hash, file.folderMillis],
  );
}
