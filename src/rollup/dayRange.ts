import { readDay } from '../days.js';
import { LedgerError } from '../errors.js';

/** A range of UTC days, both inclusive, null = unbounded. @throws LedgerError `invalid_request` */
export function readRange(
  from: string | undefined,
  until: string | undefined,
  today: string,
): { from: string | null; until: string | null } {
  for (const [field, day] of Object.entries({ from, until })) {
    if (day === undefined || readDay(field, day) <= today) continue;
    throw new LedgerError('invalid_request', `${field} lies in the future; today is ${today} UTC`, {
      details: { field },
    });
  }
  if (from !== undefined && until !== undefined && from > until) {
    throw new LedgerError('invalid_request', 'from lies after until; swap them', {
      details: { field: 'from' },
    });
  }
  return { from: from ?? null, until: until ?? null };
}
