import type { BudgetFolder } from '../budgets/folder.js';
import type { Query } from '../db/query.js';
import { scopeNamed } from '../schema/unsettled.js';
import {
  type PurgeablePayerRow,
  purgeAlertsStatement,
  purgeablePayersStatement,
} from './purge.sql.js';

const PAYERS_AT_ONCE = 100;
const EVENTS_AT_ONCE = 500;

export interface PurgeOptions {
  query: Query;
  folder: Pick<BudgetFolder, 'foldAfter'>;
  keptDays: number;
}

/**
 * Forgets what every webhook has heard, so many days after it did; never what waits, or is a dead letter,
 * nor the event of a window that is not over. In small transactions, a payer at a time; one whose mark
 * somebody holds is left to the next round.
 * @returns events
 */
export async function purgeAlerts(
  { query, folder, keptDays }: PurgeOptions,
  signal?: AbortSignal,
): Promise<number> {
  let purged = 0;
  for (let after: PurgeablePayerRow | null = null; !signal?.aborted; ) {
    const payers: PurgeablePayerRow[] = await query<PurgeablePayerRow>(
      purgeablePayersStatement(keptDays, after, PAYERS_AT_ONCE),
    );
    for (const payer of payers) {
      purged += await purgePayer(folder, payer, keptDays, signal);
    }
    after = payers.at(-1) ?? null;
    if (payers.length < PAYERS_AT_ONCE) break;
  }
  return purged;
}

async function purgePayer(
  folder: PurgeOptions['folder'],
  { payer_scope: name, payer_id: id }: PurgeablePayerRow,
  keptDays: number,
  signal?: AbortSignal,
): Promise<number> {
  const scope = scopeNamed(name);
  const statement = purgeAlertsStatement(scope, id, keptDays, EVENTS_AT_ONCE);
  let all = 0;
  for (let purged = EVENTS_AT_ONCE; purged === EVENTS_AT_ONCE && !signal?.aborted; all += purged) {
    purged = 0;
    const isDone = await folder.foldAfter(scope, id, async (query) => {
      const [row] = await query<{ purged: number }>(statement);
      purged = row?.purged ?? 0;
    });
    if (!isDone) return all;
  }
  return all;
}
