import type pg from 'pg';
import { elsewhere } from '../errors.js';
import { toSafeInteger } from '../money.js';
import { takesBucket } from '../schema/elsewhere.js';
import { invalidField, readOptionalText, readText } from './fields.js';
import { runStatement } from './runStatement.js';

export interface NewUser {
  /** 1-256 characters. */
  id: string;
  email?: string | null | undefined;
  name?: string | null | undefined;
  /** Microdollars. */
  kilo_pass_threshold?: number | null | undefined;
}

export interface User {
  id: string;
  email: string | null;
  name: string | null;
  /** Microdollars. */
  microdollars_used: number;
  total_microdollars_acquired: number;
  kilo_pass_threshold: number | null;
  /** ISO 8601. */
  created_at: string;
}

interface UserRow {
  id: string;
  email: string | null;
  name: string | null;
  microdollars_used: string;
  total_microdollars_acquired: string;
  kilo_pass_threshold: string | null;
  created_at: Date;
}

/**
 * @param bucket of a shard: the user's, which it has to have (src/shards)
 * @throws LedgerError `invalid_request`, `already_exists` (also for a soft-deleted user's id)
 */
export async function createUser(
  pool: pg.Pool,
  user: NewUser,
  bucket: number | null = null,
): Promise<User> {
  const threshold = user.kilo_pass_threshold ?? null;
  if (threshold !== null && !Number.isSafeInteger(threshold)) {
    throw invalidField('kilo_pass_threshold', 'must be whole microdollars');
  }
  const rows = await runStatement<UserRow>(
    pool,
    `/* accounts.createUser */
     insert into kilocode_users (id, email, name, kilo_pass_threshold)
     select $1::text, $2::text, $3::text, $4::bigint
     where ${takesBucket('$5::integer')}
     returning id, email, name, microdollars_used, total_microdollars_acquired,
       kilo_pass_threshold, created_at`,
    [
      readText('id', user.id),
      readOptionalText('email', user.email),
      readOptionalText('name', user.name),
      threshold,
      bucket,
    ],
    'a user with this id exists',
  );
  const [row] = rows;
  if (row === undefined) throw elsewhere('user', {}, 'id');
  return {
    ...row,
    microdollars_used: toSafeInteger(row.microdollars_used),
    total_microdollars_acquired: toSafeInteger(row.total_microdollars_acquired),
    kilo_pass_threshold:
      row.kilo_pass_threshold === null ? null : toSafeInteger(row.kilo_pass_threshold),
    created_at: row.created_at.toISOString(),
  };
}
