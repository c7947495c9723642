import { is } from 'drizzle-orm';
import { PgTransaction } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { payerId, scopeOf } from '../counter/payer.js';
import {
  exactBalancesStatement,
  readBalancesStatement,
  type SettledRow,
} from '../counter/settle.sql.js';
import type { Query } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import { toExactInteger } from '../money.js';
import { type AppendedRow, appendUsageStatement, TWIN_WAIT_MS } from './appendUsage.sql.js';
import { type ValidEvent, validateEvent } from './event.js';
import { findMetadata } from './lookups.js';
import { explain, HostPool, type Queryable, queryOn, toRecorded } from './onHostPool.js';
import type { RecordResult, UsageEvent, UsageMetadata } from './types.js';

/**
 * What a host application writes through: a Drizzle database or transaction on node-postgres,
 * or a `pg` Pool, Client or PoolClient.
 */
export type Executor = Queryable | { _: { session: unknown } } | { $client: unknown };

const hostPools = new WeakMap<object, HostPool>();

/**
 * The write of the seed, on an executor of the caller's own, at READ COMMITTED: usage row, metadata,
 * rollup and balance effects in one SQL statement (I1). Idempotent by `id` (I3).
 *
 * On a Pool, or a Drizzle database on one, the statement is a transaction of its own and adds in
 * place where rows are free; else the row is appended, and settled by a second statement that the
 * callers of a moment share (onHostPool.ts). In a transaction, or on a single Client, which may be
 * inside one, its length is unknown: it only appends (I4, R9), and is settled after the commit by
 * whoever comes next. Amounts in microdollars.
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
  try {
    if (!isOwnTransaction) return await appendIn(client, event);
    const pool = hostPools.get(client) ?? new HostPool(client);
    hostPools.set(client, pool);
    return await pool.write(event);
  } catch (error) {
    throw toLedgerError(error);
  }
}

/** Lookups that exist are used, none is created or cached: the transaction may roll back. */
async function appendIn(client: Queryable, event: ValidEvent): Promise<RecordResult> {
  const query = queryOn(client, () => false);
  const metadata = await findMetadata(query, event);
  const [row] = await query<AppendedRow>(
    appendUsageStatement(event, { metadata, isKnown: false, boundsWaitMs: TWIN_WAIT_MS }),
  );
  const recorded = row?.created_micros
    ? toRecorded(event, row.created_micros)
    : await explain(query, event);
  return { ...recorded, new_microdollars_used: await readBalance(query, event) };
}

/** As the transaction sees it, with its own writes. */
async function readBalance(query: Query, event: ValidEvent): Promise<number | bigint> {
  const [scope, ids] = [scopeOf(event), [payerId(event)]];
  const [read] = await query<SettledRow>(readBalancesStatement(scope, ids));
  if (!read?.has_exa) return toExactInteger(read?.balance ?? 0);
  const [exact] = await query<{ balance: string }>(exactBalancesStatement(scope, ids));
  return toExactInteger(exact?.balance ?? read.balance);
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
