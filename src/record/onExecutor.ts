import { is } from 'drizzle-orm';
import { PgTransaction } from 'drizzle-orm/pg-core';
import pg from 'pg';
import type { Query } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import type { Statement } from '../db/statement.js';
import { validateEvent } from './event.js';
import { LookupCache } from './lookups.js';
import { toRecordResult } from './outcome.js';
import { type RecordedRow, recordUsageStatement } from './recordUsage.sql.js';
import type { RecordResult, UsageEvent, UsageMetadata } from './types.js';

interface Queryable {
  query(config: { text: string; values: unknown[] }): Promise<{ rows: unknown[] }>;
}

/**
 * What a host application writes through: a Drizzle database or transaction on node-postgres,
 * or a `pg` Pool, Client or PoolClient.
 */
export type Executor = Queryable | { _: { session: unknown } } | { $client: unknown };

/** Lookup ids by the pool they were committed through. */
const caches = new WeakMap<object, LookupCache>();

/**
 * The write of the seed, on an executor of the caller's own, at READ COMMITTED: usage row,
 * metadata, rollup and balance effects in one SQL statement (I1). Idempotent by `id` (I3).
 *
 * On a Pool, or a Drizzle database on one, the statement is a transaction of its own and adds in
 * place where it can. In a transaction, or on a single Client, which may be inside one, its
 * length is unknown: it only appends (I4), and the fold moves the deltas after the commit.
 * Amounts in microdollars. The SQL is in drizzle/0001_counter_functions.sql.
 * @throws LedgerError `invalid_event`, `unknown_user`, `unknown_organization`,
 *   `idempotency_conflict`, `archived_period`, `unavailable`
 */
export async function insertUsageAndMetadataWithBalanceUpdate(
  executor: Executor,
  coreUsageFields: Omit<UsageEvent, 'metadata'>,
  metadataFields?: UsageMetadata | null,
): Promise<RecordResult> {
  const event = validateEvent(
    { ...coreUsageFields, metadata: metadataFields ?? null },
    { nulBytesRemoved: 0 },
  );
  const { client, isOwnTransaction } = resolveExecutor(executor);
  const query: Query = async <Row>(statement: Statement) => {
    const result = await client.query({ text: statement.text, values: statement.values });
    return result.rows as Row[];
  };
  try {
    const lookups = caches.get(client) ?? new LookupCache();
    if (isOwnTransaction) caches.set(client, lookups);
    const metadata = isOwnTransaction
      ? ((await lookups.resolve(query, [event]))[0] ?? null)
      : await lookups.findOnly(query, event);
    const [row] = await query<RecordedRow>(recordUsageStatement(event, metadata, isOwnTransaction));
    if (!row) throw new Error('microdollar_record_usage returned no row');
    return toRecordResult(event, row);
  } catch (error) {
    throw toLedgerError(error);
  }
}

export function resolveExecutor(executor: Executor): {
  client: Queryable;
  isOwnTransaction: boolean;
} {
  if (executor instanceof pg.Pool) return { client: executor, isOwnTransaction: true };
  const drizzle = executor as {
    $client?: unknown;
    session?: { client?: unknown };
    _?: { session?: { client?: unknown } };
  };
  const client = drizzle.$client ?? drizzle.session?.client ?? drizzle._?.session?.client;
  const target = (client ?? executor) as Queryable;
  if (typeof target.query !== 'function') {
    throw new TypeError('executor must be a Drizzle database on node-postgres, or a pg client');
  }
  return {
    client: target,
    isOwnTransaction: !is(executor, PgTransaction) && isPool(target),
  };
}

/** A pool of the host application may come from another copy of `pg`. */
function isPool(client: Queryable): boolean {
  return client instanceof pg.Pool || ('totalCount' in client && 'idleCount' in client);
}
