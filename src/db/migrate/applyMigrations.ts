import { setTimeout as sleep } from 'node:timers/promises';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import type pg from 'pg';
import { isLockConflict } from '../sqlstate.js';
import { rootOf } from './connection.js';
import {
  MIGRATIONS_SCHEMA,
  MIGRATIONS_TABLE,
  type Migration,
  migrationsFolder,
} from './journal.js';

/** All in one transaction: all or nothing. */
export async function applyMigrations(
  client: pg.Client,
  unapplied: readonly Migration[],
  options: { attempts: number; log: (message: string) => void },
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await migrate(drizzle(client), {
        migrationsFolder: migrationsFolder(),
        migrationsTable: MIGRATIONS_TABLE,
        migrationsSchema: MIGRATIONS_SCHEMA,
      });
      return;
    } catch (error) {
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
