import type pg from 'pg';
import { citusPlaceOf } from '../db/citus/placedUrl.js';
import { withoutTimeLimit } from '../db/transaction.js';
import { LOCK_USAGE } from '../rollup/database.js';

/**
 * Begins a transaction that reads usage and counters in one snapshot, however long it takes.
 * @param settings statements for it, in force from its lock on
 */
export async function beginSnapshot(
  client: pg.Client,
  { url }: { url: string },
  settings = '',
): Promise<void> {
  const unlimited = await withoutTimeLimit(client);
  await client.query(`begin isolation level repeatable read, read only; ${unlimited}`);
  if (settings !== '') await client.query(settings);
  // Citus' ledgers have no partitions, and a view in the table's place.
  if (citusPlaceOf(url) === null) await client.query(LOCK_USAGE);
}
