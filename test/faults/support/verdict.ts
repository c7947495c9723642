import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { expect } from 'vitest';
import { createLedger } from '../../../src/ledger.js';
import { checkFolded, checkInvariants } from '../../support/checkInvariants.js';
import type { ClientBook } from './clientBook.js';
import { SEED } from './scale.js';

/**
 * How every scenario ends: nothing acknowledged is missing, nothing is counted twice, the
 * invariants hold on the whole database, and again after a fold in the base tables alone.
 */
export async function expectNothingLost(
  book: ClientBook,
  database: { pool: pg.Pool; url: string },
): Promise<void> {
  const { pool, url } = database;
  await untilQuiet(pool);
  const seed = `FAULT_SEED=${SEED}`;
  expect(book.acknowledged, 'no traffic, no proof').toBeGreaterThan(0);
  expect(await findWrong(book, pool), seed).toEqual([]);
  const ledger = await createLedger({
    databaseUrl: url,
    backgroundFold: false,
  });
  try {
    expect(await ledger.fold(), seed).toMatchObject({ remaining: 0 });
  } finally {
    await ledger.close();
  }
  expect(await findWrong(book, pool), seed).toEqual([]);
  expect(await checkFolded(pool), seed).toEqual([]);
}

/** Differences from the clients' book, and violated invariants; the first few of each. */
export async function findWrong(book: ClientBook, pool: pg.Pool): Promise<string[]> {
  const differences = await book.compare(pool);
  const violations = await checkInvariants(pool);
  return [...differences.slice(0, 8), ...violations.slice(0, 8)];
}

/** Statements of those who were killed may still be under way in the server. */
async function untilQuiet(pool: pg.Pool): Promise<void> {
  for (;;) {
    const { rows } = await pool.query<{ busy: number }>(
      `select count(*)::integer as busy
      from pg_stat_activity
      where datname = current_database()
        and pid <> pg_backend_pid()
        and state <> 'idle'`,
    );
    if (rows[0]?.busy === 0) return;
    await sleep(20);
  }
}
