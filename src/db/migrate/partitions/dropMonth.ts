import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { isLockConflict, isStatementTimeout } from '../../sqlstate.js';
import { quote } from '../step.js';
import { addMonths, type Month, partitionOf, startOf, USAGE } from './months.js';
import { readColumnList, readPartitionState } from './state.js';

/** Rows of other months, by ids that are no UUID v7: so few go back into the default partition. */
const MAX_STRAYS = 1_000;
const ATTEMPTS = 10;
/** Below the server's deadlock timeout; what waits behind waits no longer. */
const LOCK_TIMEOUT_MS = 500;
/** A partition whose deleted rows are not vacuumed yet takes long to be found empty. */
const LOOK_TIMEOUT_MS = 30_000;
const LOCKED_LOOK_TIMEOUT_MS = 200;

/** Months of which every instant is before this one, oldest first. */
export async function findPastMonths(client: pg.ClientBase, before: Date): Promise<Month[]> {
  const { kind, partitions } = await readPartitionState(client);
  if (kind !== 'by id') return [];
  return partitions
    .flatMap(({ month }) => month ?? [])
    .filter((month) => startOf(addMonths(month, 1)) <= before.getTime())
    .sort();
}

export type DropOutcome = 'dropped' | 'has rows' | 'in use';

/**
 * Drops the partition of a month whose usage is archived: nothing is in it but a few rows of later time,
 * which go into the default partition in the same transaction. Gives way, as a migration does, to
 * whoever uses the table. Usage of that month that comes yet goes into the default partition.
 */
export async function dropMonth(
  client: pg.ClientBase,
  month: Month,
  before: Date,
): Promise<DropOutcome> {
  const partition = quote(partitionOf(month));
  for (let attempt = 1; ; attempt++) {
    try {
      // Without a lock first: it also marks index entries of rows that are gone.
      if (!(await isDroppable(client, partition, before, LOOK_TIMEOUT_MS))) return 'has rows';
      return await dropLocked(client, partition, before);
    } catch (error) {
      await client.query('rollback');
      if (!isLockConflict(error) && !isStatementTimeout(error)) throw error;
      if (attempt >= ATTEMPTS) return 'in use';
      await sleep(50 + Math.random() * Math.min(50 * 2 ** attempt, 2_000));
    }
  }
}

async function isDroppable(
  client: pg.ClientBase,
  partition: string,
  before: Date,
  timeoutMs: number,
): Promise<boolean> {
  await client.query('begin');
  const isFree = await hasNothingBefore(client, partition, before, timeoutMs);
  await client.query('commit');
  return isFree;
}

async function hasNothingBefore(
  client: pg.ClientBase,
  partition: string,
  before: Date,
  timeoutMs: number,
): Promise<boolean> {
  // By its key: the pages of rows that are gone may be many.
  await client.query(
    `set local enable_seqscan = off; set local enable_bitmapscan = off;
    set local statement_timeout = ${timeoutMs}`,
  );
  const { rows } = await client.query<{ count: number; hasOlder: boolean | null }>(
    `select count(*)::integer as count, bool_or(p.created_at < $1::timestamptz) as "hasOlder"
    from (select created_at from ${partition} order by id limit ${MAX_STRAYS + 1}) as p`,
    [before.toISOString()],
  );
  const { count = 0, hasOlder = null } = rows[0] ?? {};
  return count <= MAX_STRAYS && !hasOlder;
}

async function dropLocked(
  client: pg.ClientBase,
  partition: string,
  before: Date,
): Promise<DropOutcome> {
  await client.query('begin');
  await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await client.query(`lock table only ${USAGE} in access exclusive mode`);
  await client.query(`alter table ${USAGE} detach partition ${partition}`);
  if (!(await hasNothingBefore(client, partition, before, LOCKED_LOOK_TIMEOUT_MS))) {
    await client.query('rollback');
    return 'has rows';
  }
  const columns = await readColumnList(client);
  await client.query(`insert into ${USAGE} (${columns}) select ${columns} from ${partition}`);
  await client.query(`drop table ${partition}`);
  await client.query('commit');
  return 'dropped';
}
