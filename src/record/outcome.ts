import { elsewhere, LedgerError } from '../errors.js';
import type { ValidEvent } from './event.js';
import type { ExplainedRow } from './explainUsage.sql.js';
import { formatMicros } from './instants.sql.js';
import type { RecordedEvent } from './types.js';

/** What the database says of an event that was not inserted. @throws LedgerError why */
export function toExplained(
  event: Pick<ValidEvent, 'id'>,
  row: Pick<ExplainedRow, 'status' | 'created_micros'>,
): RecordedEvent {
  const createdAt = row.created_micros === null ? '' : formatMicros(row.created_micros);
  switch (row.status) {
    case 'duplicate':
      return { id: event.id, created_at: createdAt, status: 'duplicate' };
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
    case 'user_elsewhere':
    case 'organization_elsewhere':
      throw elsewhere(row.status === 'user_elsewhere' ? 'user' : 'organization', { id: event.id });
    case 'idempotency_conflict':
      throw new LedgerError(
        'idempotency_conflict',
        'this id was recorded with different content; use a new id for a new event',
        { details: { field: 'id', id: event.id, created_at: createdAt } },
      );
    case 'archived_period':
      throw new LedgerError(
        'archived_period',
        'created_at lies before the archive horizon; its period is closed',
        { details: { field: 'created_at', id: event.id } },
      );
    case 'absent':
      throw new LedgerError(
        'unavailable',
        'another write of this id was in flight and ended without it; send it again',
        { details: { id: event.id, is_absent: true } },
      );
  }
}
