import { readFileSync } from 'node:fs';
import path from 'node:path';
import type pg from 'pg';
import { createTestDatabase, type TestDatabase } from './database.js';

const SCHEMA = readFileSync(path.join(import.meta.dirname, 'schemaBeforeLog.sql'), 'utf8');

/** A database of the eight migrations before the log, as its last `migrate` left it. */
export async function createDatabaseBeforeLog(): Promise<TestDatabase> {
  const database = await createTestDatabase({ empty: true });
  await database.pool.query(SCHEMA);
  await database.pool.query(`
    update ledger_settings
    set system_identifier = (select system_identifier::text from pg_control_system())`);
  return database;
}

export interface OldEvent {
  kilo_user_id: string;
  organization_id?: string | null;
  cost: number;
  created_at?: string | null;
}

/** What a program of then sends: one event, in place where it can, or appended. */
export function recordBeforeLog(
  database: pg.Pool | pg.Client,
  { kilo_user_id, organization_id = null, cost, created_at = null }: OldEvent,
  inPlace: boolean,
) {
  return database.query(
    `/* old program */
    select * from microdollar_record_usage(gen_random_uuid(), $1, $2, null, null, null, null, null,
      $3, 1, 1, 0, 0, null, false, $4, null, $5)`,
    [kilo_user_id, organization_id, cost, created_at, inPlace],
  );
}

/** The same for a request to Exa; `allowance` as the option of the process was. */
export function recordExaBeforeLog(
  database: pg.Pool | pg.Client,
  { kilo_user_id, organization_id = null, cost, created_at = null }: OldEvent,
  options: { inPlace: boolean; allowance: number },
) {
  return database.query(
    `/* old program */
    select * from microdollar_record_exa_usage(gen_random_uuid(), $1, $2, $3, '/search', $4, $5, $6)`,
    [kilo_user_id, organization_id, cost, created_at, options.allowance, options.inPlace],
  );
}
