import { LedgerError } from '../errors.js';

const DAY = /^\d{4}-\d{2}-\d{2}$/;

/** A UTC calendar day. @throws LedgerError `invalid_request` naming the field */
export function readDay(field: string, value: string): string {
  const at = DAY.test(value) ? Date.parse(`${value}T00:00:00Z`) : Number.NaN;
  if (Number.isNaN(at) || new Date(at).toISOString().slice(0, 10) !== value) {
    throw new LedgerError('invalid_request', `${field} must be a UTC day like 2026-11-22`, {
      details: { field },
    });
  }
  return value;
}

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
