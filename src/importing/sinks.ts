import type { Pool, PoolClient } from 'pg';
import { toLedgerError } from '../db/sqlstate.js';
import { inTransaction } from '../db/transaction.js';
import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import { type ValidEvent, validateEvent } from '../record/event.js';
import { toExplained } from '../record/outcome.js';
import type { UsageEvent } from '../record/types.js';
import type { Accounts } from '../shards/accounts.js';
import { ensureAccounts } from './accounts.js';
import { firstOpenDayStatement, insertRawStatement } from './insertRaw.sql.js';

/** What became of one event of a file. */
export type LineOutcome =
  | { status: 'recorded' | 'duplicate' }
  | { status: 'rejected'; code: string; reason: string };

/** Where a file's events go; one outcome each, in order. Rejects when nothing can be written. */
export type EventSink = (events: readonly UsageEvent[]) => Promise<LineOutcome[]>;

/** Through the ledger: usage, rollup and balance together (I1). */
export function ledgerSink(ledger: Ledger): EventSink {
  return async (events) => {
    const results = await ledger.recordUsageBatch(events, { balance: false });
    return results.map((result): LineOutcome => {
      if (result.status !== 'rejected') return { status: result.status };
      return toRejection(result.error);
    });
  };
}

/**
 * Usage rows alone (`--raw`); events are checked as everywhere else, and below the archive's horizon none
 * is taken: the row that would tell it for a duplicate may be gone. In one transaction, for which an archive
 * that raises the horizon meanwhile waits.
 */
export function rawSink(pool: Pool): EventSink {
  return async (events) => {
    try {
      return await inTransaction(pool, (client) => insertRaw(client, events));
    } catch (error) {
      throw toLedgerError(error);
    }
  };
}

async function insertRaw(
  client: PoolClient,
  events: readonly UsageEvent[],
): Promise<LineOutcome[]> {
  const outcomes: LineOutcome[] = events.map(() => ({ status: 'duplicate' }));
  const horizon = await client.query<{ day: string | null }>(firstOpenDayStatement());
  const firstOpenDay = horizon.rows[0]?.day ?? null;
  const valid = events.flatMap((event, index) => {
    try {
      const valid = validateEvent(event, { nulBytesRemoved: 0 });
      refuseArchived(valid, firstOpenDay);
      return [{ index, event: valid }];
    } catch (error) {
      outcomes[index] = toRejection(error as Error);
      return [];
    }
  });
  const statement = insertRawStatement(valid.map(({ event }) => event));
  const { rows } = await client.query<{ id: string }>(statement);
  const inserted = new Set(rows.map((row) => row.id));
  for (const { index, event } of valid) {
    // The first of two lines with one id is the one that was inserted.
    if (inserted.delete(event.id)) outcomes[index] = { status: 'recorded' };
  }
  return outcomes;
}

/** @throws LedgerError `archived_period` */
function refuseArchived(event: ValidEvent, firstOpenDay: string | null): void {
  if (firstOpenDay === null || event.created_at === null) return;
  if (event.created_at >= firstOpenDay) return;
  toExplained(event, { status: 'archived_period', created_micros: null });
}

/** @throws the error itself when it says nothing about the event: the import cannot go on. */
function toRejection(error: Error): LineOutcome {
  if (!(error instanceof LedgerError)) throw error;
  if (error.code === 'unavailable' || error.code === 'internal') throw error;
  return { status: 'rejected', code: error.code, reason: error.message };
}

/** Creates the users and organizations that events name, before `sink` has them. */
export function creatingAccounts(accounts: Accounts, sink: EventSink): EventSink {
  const seen = new Set<string>();
  const unseen = (kind: string, ids: readonly (string | null | undefined)[]) => {
    const fresh = new Set(ids.filter((id) => typeof id === 'string' && !seen.has(`${kind}:${id}`)));
    return [...fresh] as string[];
  };
  return async (events) => {
    const valid = events.filter(isValid);
    const users = unseen(
      'user',
      valid.map((event) => event.kilo_user_id),
    );
    const organizations = unseen(
      'organization',
      valid.map((event) => event.organization_id?.toLowerCase()),
    );
    await ensureAccounts(accounts, {
      users,
      organizations: organizations.map((id) => ({ id, name: id })),
      members: [],
    });
    for (const id of users) seen.add(`user:${id}`);
    for (const id of organizations) seen.add(`organization:${id}`);
    return sink(events);
  };
}

function isValid(event: UsageEvent): boolean {
  try {
    validateEvent(event, { nulBytesRemoved: 0 });
    return true;
  } catch {
    return false;
  }
}
