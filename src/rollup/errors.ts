import { LedgerError } from '../errors.js';

/** A range of UTC days, both inclusive. @throws LedgerError `invalid_request` */
export function readRange(
  from: string | undefined,
  until: string | undefined,
  bounds: { first: string; current: string },
): { from: string; until: string } {
  const range = { from: from ?? bounds.first, until: until ?? bounds.current };
  if (range.until > bounds.current) {
    throw new LedgerError(
      'invalid_request',
      `until lies in the future; today is ${bounds.current} UTC`,
      {
        details: { field: 'until' },
      },
    );
  }
  if (range.from > range.until) {
    throw new LedgerError('invalid_request', 'from lies after until; swap them', {
      details: { field: 'from' },
    });
  }
  return range;
}
