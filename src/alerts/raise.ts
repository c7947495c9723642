import type { FoldedRows } from '../budgets/folder.js';
import type { Query } from '../db/query.js';
import type { PayerScope } from '../schema/unsettled.js';
import { type RaisedRow, raiseAlertsStatement } from './raise.sql.js';
import { raiseSpendStatement } from './raiseSpend.sql.js';

/**
 * Writes what a fold of a payer with alerts crossed into the outbox, in the fold's transaction.
 * @returns events that were raised
 */
export async function raiseAlerts(
  query: Query,
  scope: PayerScope,
  payerId: string,
  folded: FoldedRows,
): Promise<number> {
  const windowIds = folded.map((row) => row.window_id);
  const rows = await query<RaisedRow>(raiseAlertsStatement(scope, payerId, windowIds));
  const hours = folded[0]?.spend_hours ?? [];
  if (hours.length > 0) {
    rows.push(...(await query<RaisedRow>(raiseSpendStatement(scope, payerId, hours))));
  }
  return rows.reduce((sum, row) => sum + Number(row.raised), 0);
}
