import { LedgerError } from '../../errors.js';
import { type Places, quoteLog } from './cluster.js';

/** The directory cannot be used because of a process. */
export function heldBy(places: Places, pid: number | undefined, what: string): LedgerError {
  return new LedgerError(
    'unavailable',
    `${places.root} is in use: process ${pid ?? 'unknown'} ${what}; ` +
      'stop that process, choose another MICRODOLLAR_DATA_DIR, or set DATABASE_URL',
    { details: { directory: places.root, pid: pid ?? null } },
  );
}

/** The server did not start, in the words of its log. */
export function failedStart(places: Places, what: string): LedgerError {
  return new LedgerError('unavailable', `embedded PostgreSQL ${what}${quoteLog(places)}`, {
    details: { directory: places.root },
  });
}

export function recovering(places: Places): LedgerError {
  return failedStart(places, 'is not ready yet: it goes on starting, try again');
}
