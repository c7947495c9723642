import type pg from 'pg';
import { sqlStateOf } from '../sqlstate.js';

/**
 * Transaction ids are stored in a few columns (`pending_floor`, `xid`, `scrub_after_xid`), and mean
 * something only in the cluster that gave them. `ledger_settings.system_identifier` names it:
 *
 * - Dump and restore, or logical replication, into another cluster: the identifier differs. A
 *   floor of the old cluster above the ids of the new one would hide every pending row to come
 *   from the balance (I5), also once those ids have passed it: so all floors go back to 0, and
 *   pending rows and scrubs are stamped with the present.
 * - pg_upgrade: the new cluster is a fresh one, so the identifier differs, though transaction ids
 *   go on where they were. The reset is not needed then, and does no harm: a floor only spares
 *   reading what was drained, and a pending row that is stamped later is drained all the same.
 * - A physical copy (base backup, snapshot, promoted standby, point-in-time recovery): the same
 *   identifier, and the same ids. Nothing to do.
 *
 * Ids above the present are reset in any case: they came without the settings row.
 */
export async function repairForeignXids(
  client: pg.Client,
  log: (message: string) => void,
): Promise<void> {
  try {
    const present = await readIdentifier(client);
    const stored = await client.query<{ identifier: string | null }>(
      'select system_identifier as identifier from ledger_settings where id = 1',
    );
    const known = stored.rows[0]?.identifier ?? null;
    const isElsewhere = present !== null && known !== null && present !== known;
    if (isElsewhere || (await client.query(FIND_FUTURE_XIDS)).rows[0].found) {
      log('transaction ids of another cluster found (a restored dump?): resetting them');
      await resetXids(client);
    }
    // Last, so that a reset that was ended midway is done again.
    if (present !== null && present !== known) await client.query(STORE_IDENTIFIER, [present]);
  } catch (error) {
    await client.query('rollback').catch(() => {});
    if (sqlStateOf(error) !== NOT_PERMITTED) throw error;
    log('transaction ids of another cluster were not checked: this role may not');
  }
}

/** SQLSTATE of a missing right: a service role that may not write leaves it to the owner. */
const NOT_PERMITTED = '42501';
/** Rows locked by one transaction: a write that meets one appends, and waits for none (I4). */
const ROWS_PER_TRANSACTION = 1_000;

const FIND_FUTURE_XIDS = `
select exists (
    select from kilocode_users
    where pending_floor > pg_snapshot_xmax(pg_current_snapshot())
      or scrub_after_xid > pg_snapshot_xmax(pg_current_snapshot()))
  or exists (
    select from organizations
    where pending_floor > pg_snapshot_xmax(pg_current_snapshot()))
  or exists (
    select from microdollar_usage_pending
    where xid > pg_snapshot_xmax(pg_current_snapshot())) as found`;

/** Rows that a fold has drained since are found by it again: 0 is right at any time. */
const resetFloors = (table: 'kilocode_users' | 'organizations') => `
update ${table}
set pending_floor = '0'
where id in (
    select id from ${table}
    where pending_floor <> '0'
    limit ${ROWS_PER_TRANSACTION})
  and pending_floor <> '0'`;

/** A row that a fold deletes at the same moment is left to it: the update waits, and skips it. */
const RESTAMP_PENDING = `
update microdollar_usage_pending
set xid = pg_current_xact_id()
where xid <> pg_current_xact_id()`;

const RESTAMP_SCRUBS = `
update kilocode_users
set scrub_after_xid = pg_current_xact_id()
where scrub_after_xid is not null`;

const STORE_IDENTIFIER = `
update ledger_settings
set system_identifier = $1, updated_at = now()
where id = 1`;

async function resetXids(client: pg.Client): Promise<void> {
  for (const table of ['kilocode_users', 'organizations'] as const) {
    let changed: number;
    do {
      changed = (await client.query(resetFloors(table))).rowCount ?? 0;
    } while (changed > 0);
  }
  await client.query(RESTAMP_PENDING);
  await client.query(RESTAMP_SCRUBS);
}

/** Null where the server does not tell it to this role. */
async function readIdentifier(client: pg.Client): Promise<string | null> {
  try {
    const result = await client.query<{ identifier: string }>(
      'select system_identifier::text as identifier from pg_control_system()',
    );
    return result.rows[0]?.identifier ?? null;
  } catch (error) {
    if (sqlStateOf(error) === NOT_PERMITTED) return null;
    throw error;
  }
}
