import { is } from 'drizzle-orm';
import { PgTransaction } from 'drizzle-orm/pg-core';
import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { validateEvent } from '../record/event.js';
import { type Executor, resolveExecutor } from '../record/onExecutor.js';
import { type BatchRow, recordBatchStatement } from '../record/recordBatch.sql.js';
import type { UsageEvent } from '../record/types.js';

/** Daily rows that one statement may create. */
const ROWS_PER_STATEMENT = 64;

/**
 * Writes usage rows directly, with their daily rollup and balance effects, in one transaction:
 * I1-I8 hold for them as if the ledger had recorded them, and base tables are right at once.
 * For tests, on rows with any `created_at`. `db` is a Drizzle database or transaction, or a
 * `pg` Pool or Client.
 * @throws LedgerError when a row is invalid, its user is unknown or its id exists; nothing is written
 */
export async function insertMicrodollarUsageWithDailyRollup(
  db: Executor,
  rows: readonly Omit<UsageEvent, 'metadata'>[],
): Promise<{ id: string; created_at: string }[]> {
  const { client, isOwnTransaction } = resolveExecutor(db);
  if (is(db, PgTransaction)) return await insertAll(client, rows);
  const session = isOwnTransaction ? await (client as pg.Pool).connect() : (client as pg.Client);
  try {
    await session.query('begin');
    const inserted = await insertAll(session, rows);
    await session.query('commit');
    return inserted;
  } catch (error) {
    await session.query('rollback');
    throw error;
  } finally {
    if (isOwnTransaction) (session as pg.PoolClient).release();
  }
}

async function insertAll(
  client: { query(config: { text: string; values: unknown[] }): Promise<{ rows: unknown[] }> },
  rows: readonly Omit<UsageEvent, 'metadata'>[],
): Promise<{ id: string; created_at: string }[]> {
  const events = rows.map((row) => validateEvent(row, { nulBytesRemoved: 0 }));
  const createdAt = new Map<string, string>();
  for (let from = 0; from < events.length; from += ROWS_PER_STATEMENT) {
    const part = events.slice(from, from + ROWS_PER_STATEMENT);
    const { text, values } = recordBatchStatement(
      part,
      part.map(() => null),
      true,
    );
    const result = await client.query({ text, values });
    for (const row of result.rows as BatchRow[]) {
      if (row.kind === 'event') createdAt.set(row.key, row.created_at ?? '');
    }
  }
  return events.map((event) => {
    const at = createdAt.get(event.id);
    if (at === undefined) {
      throw new LedgerError(
        'invalid_event',
        `usage row ${event.id} was not inserted: its user or organization is unknown, or its id exists`,
        { details: { field: 'id', id: event.id } },
      );
    }
    return { id: event.id, created_at: at };
  });
}
