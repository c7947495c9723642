import type pg from 'pg';
import { sqlStateOf } from '../sqlstate.js';

/**
 * Transaction ids are stored in a few columns (`pending_floor`, `xid`, `scrub_after_xid`), and
 * mean something only in the cluster that gave them. After a dump is restored into another
 * cluster they may lie in that cluster's future: a floor up there would hide every pending row
 * to come from the balance (I5), so it goes back to 0; pending rows and scrubs up there are
 * restamped with the present.
 */
const FIND_FOREIGN_XIDS = `
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

const REPAIRS = [
  `update kilocode_users
  set pending_floor = '0'
  where pending_floor > pg_current_xact_id()`,
  `update organizations
  set pending_floor = '0'
  where pending_floor > pg_current_xact_id()`,
  `update kilocode_users
  set scrub_after_xid = pg_current_xact_id()
  where scrub_after_xid > pg_current_xact_id()`,
  `update microdollar_usage_pending
  set xid = pg_current_xact_id()
  where xid > pg_current_xact_id()`,
] as const;

/** SQLSTATE of a missing right: a service role that may not write leaves it to the owner. */
const NOT_PERMITTED = '42501';

/** Found in the normal case: nothing, by one read of the payers. */
export async function repairForeignXids(
  client: pg.Client,
  log?: (message: string) => void,
): Promise<void> {
  try {
    const result = await client.query(FIND_FOREIGN_XIDS);
    if (!result.rows[0].found) return;
    log?.('transaction ids of another cluster found (a restored dump?): resetting them');
    await client.query('begin');
    for (const statement of REPAIRS) await client.query(statement);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => {});
    if (sqlStateOf(error) !== NOT_PERMITTED) throw error;
    log?.('transaction ids of another cluster were not checked: this role may not');
  }
}
