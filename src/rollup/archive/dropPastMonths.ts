import type pg from 'pg';
import { dropMonth, findPastMonths } from '../../db/migrate/partitions/dropMonth.js';
import { partitionOf } from '../../db/migrate/partitions/months.js';
import { isNotPermitted } from '../../db/sqlstate.js';
import type { ArchiveOptions } from './types.js';

/**
 * Of a ledger that is partitioned by id: drops months whose usage is archived, which gives their room
 * back to the file system. What cannot be dropped now is told, and tried by the next archive.
 */
export async function dropPastMonths(
  client: pg.PoolClient,
  horizon: string | null,
  { signal, onNotice, onStep }: Pick<ArchiveOptions, 'signal' | 'onNotice' | 'onStep'>,
): Promise<void> {
  if (horizon === null) return;
  const before = new Date(horizon);
  for (const month of await findPastMonths(client, before)) {
    if (signal?.aborted) return;
    const name = partitionOf(month);
    try {
      const outcome = await dropMonth(client, month, before);
      if (outcome === 'dropped') onStep?.('partition dropped');
      onNotice?.(`partition ${name}: ${outcome}`);
    } catch (error) {
      if (!isNotPermitted(error)) throw error;
      onNotice?.(`partition ${name} is not dropped: that is for the owner of microdollar_usage`);
      return;
    }
  }
}
