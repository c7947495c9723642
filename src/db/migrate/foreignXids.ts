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
      or (scrub_after_xid > pg_snapshot_xmax(pg_current_snapshot())
        and scrub_after_xid <> '18446744073709551615'))
  or exists (
    select from organizations
    where pending_floor > pg_snapshot_xmax(pg_current_snapshot()))
  or exists (
    select from microdollar_usage_pending
    where xid > pg_snapshot_xmax(pg_current_snapshot())) as found`;

/**
 * A block of payers in id order, so that floors which a fold sets meanwhile are not met again. Rows
 * that a fold has drained since are looked for once more: 0 is right at any time.
 */
const resetFloors = (table: 'kilocode_users' | 'organizations', idType: 'text' | 'uuid') => `
with block as materialized (
  select id
  from ${table}
  where pending_floor <> '0'
    and ($1::text is null or id > $1::${idType})
  order by id
  limit ${ROWS_PER_TRANSACTION}
), reset as (
  update ${table} as t
  set pending_floor = '0'
  from block
  where t.id = block.id
)
select (array_agg(id::text order by id desc))[1] as last
from block`;

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
  for (const [table, idType] of [
    ['kilocode_users', 'text'],
    ['organizations', 'uuid'],
  ] as const) {
    let last: string | null = null;
    do {
      const block: pg.QueryResult<{ last: string | null }> = await client.query(
        resetFloors(table, idType),
        [last],
      );
      last = block.rows[0]?.last ?? null;
    } while (last !== null);
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
