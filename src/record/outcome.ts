import { LedgerError } from '../errors.js';
import { toSafeInteger } from '../money.js';
import type { ValidEvent } from './event.js';
import type { RecordedRow } from './recordUsage.sql.js';
import type { RecordResult } from './types.js';

/** The row of microdollar_record_usage to a result. @throws LedgerError what it refused */
export function toRecordResult(
  event: Pick<ValidEvent, 'id' | 'kilo_user_id' | 'organization_id'>,
  row: RecordedRow,
): RecordResult {
  switch (row.status) {
    case 'recorded':
    case 'duplicate':
      return {
        id: event.id,
        created_at: row.created_at ?? '',
        status: row.status,
        new_microdollars_used: toSafeInteger(row.new_microdollars_used ?? 0),
      };
    case 'unknown_user':
      throw new LedgerError('unknown_user', 'kilo_user_id names no user; create the user first', {
        details: { field: 'kilo_user_id', id: event.id },
      });
    case 'unknown_organization':
      throw new LedgerError(
        'unknown_organization',
        'organization_id names no organization; create the organization first',
        { details: { field: 'organization_id', id: event.id } },
      );
    case 'idempotency_conflict':
      throw new LedgerError(
        'idempotency_conflict',
        'this id was recorded with different content; use a new id for a new event',
        { details: { field: 'id', id: event.id, created_at: row.created_at } },
      );
    case 'archived_period':
      throw new LedgerError(
        'archived_period',
        'created_at lies before the archive horizon; its period is closed',
        { details: { field: 'created_at', id: event.id } },
      );
  }
}
