import { LedgerError } from '../../errors.js';
import type { UsageEvent } from '../../record/types.js';

/** What we measured is not lost because a clock was wrong: it is recorded all the same. */
export function isRefusedForItsTime(error: unknown): boolean {
  return (
    error instanceof LedgerError &&
    error.code === 'invalid_event' &&
    error.details.field === 'created_at'
  );
}

/** The same usage at the time at which the database records it; the stated time is kept. */
export function redate(event: UsageEvent & { id: string }): UsageEvent & { id: string } {
  const { created_at: stated, metadata } = event;
  const kept = stated instanceof Date ? stated.toISOString() : (stated ?? null);
  return {
    ...event,
    created_at: null,
    metadata: {
      ...metadata,
      usage_details: { ...metadata?.usage_details, stated_created_at: kept },
    },
  };
}
