import type pg from 'pg';
import { FOLDED, INVARIANTS, NEVER_EXCEEDS } from './invariants.sql.js';

/**
 * Checks I1, I2, I5, I7, I8, I13 and I14 over the whole database, in one snapshot, so it may run beside
 * live writers. A raw row that a foreign program wrote is drift until it is backfilled.
 *
 * @returns violations in words, with amounts in microdollars; empty = none
 */
export function checkInvariants(pool: pg.Pool): Promise<string[]> {
  return inOneSnapshot(pool, INVARIANTS);
}

/** After a fold with no writers: nothing unsettled, and the base tables alone are exact. */
export function checkFolded(pool: pg.Pool): Promise<string[]> {
  return inOneSnapshot(pool, FOLDED);
}

/** Where every request is held: nothing is spent, or held, past a limit. */
export function checkNeverExceeds(pool: pg.Pool): Promise<string[]> {
  return inOneSnapshot(pool, NEVER_EXCEEDS);
}

async function inOneSnapshot(pool: pg.Pool, statements: readonly string[]): Promise<string[]> {
  const client = await pool.connect();
  // A server that is killed meanwhile fails the statement, and not the process.
  const ignore = () => {};
  client.on('error', ignore);
  try {
    await client.query('begin isolation level repeatable read read only');
    const violations: string[] = [];
    for (const statement of statements) {
      const result = await client.query<{ message: string }>(statement);
      violations.push(...result.rows.map((row) => row.message));
    }
    await client.query('commit');
    return violations.sort();
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  } finally {
    client.off('error', ignore);
    client.release();
  }
}
