import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type pg from 'pg';
import { createTestDatabase, once, type TestDatabase } from './database.js';

const SCHEMA = readFileSync(path.join(import.meta.dirname, 'schemaBeforeLog.sql'), 'utf8');

const templateBeforeLog = once(async () => {
  const database = await createTestDatabase({ empty: true, kept: true });
  await database.pool.query(SCHEMA);
  await database.pool.query(`
    update ledger_settings
    set system_identifier = (select system_identifier::text from pg_control_system())`);
  await database.drop();
  return database.name;
});

/** A database of the eight migrations before the log, as its last `migrate` left it. */
export async function createDatabaseBeforeLog(): Promise<TestDatabase> {
  return await createTestDatabase({ template: await templateBeforeLog() });
}

export interface OldEvent {
  id?: string;
  kilo_user_id: string;
  organization_id?: string | null;
  cost: number;
  created_at?: string | null;
}

export interface OldAnswer {
  status: string;
  created_at: string;
}

/** What a program of then sends: one event, in place where it can, or appended. */
export async function recordBeforeLog(
  database: pg.Pool | pg.ClientBase,
  { id, kilo_user_id, organization_id = null, cost, created_at = null }: OldEvent,
  inPlace: boolean,
): Promise<OldAnswer | undefined> {
  const result = await database.query<OldAnswer>(
    `/* old program */
    select status, created_at
    from microdollar_record_usage($1, $2, $3, null, 'm', null, null, null, $4, 5, 0, 0, 0, null,
      false, $5, null, $6)`,
    [id ?? randomUUID(), kilo_user_id, organization_id, cost, created_at, inPlace],
  );
  return result.rows[0];
}

/** The same for a request to Exa; `allowance` as the option of the process was. */
export async function recordExaBeforeLog(
  database: pg.Pool | pg.ClientBase,
  { id, kilo_user_id, organization_id = null, cost, created_at = null }: OldEvent,
  options: { inPlace: boolean; allowance: number },
): Promise<OldAnswer | undefined> {
  const { inPlace, allowance } = options;
  const result = await database.query<OldAnswer>(
    `/* old program */
    select status, created_at
    from microdollar_record_exa_usage($1, $2, $3, $4, '/search', $5, $6, $7)`,
    [id ?? randomUUID(), kilo_user_id, organization_id, cost, created_at, allowance, inPlace],
  );
  return result.rows[0];
}
