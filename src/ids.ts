import { LedgerError } from './errors.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether it is a UUID in its usual text form (RFC 9562), of any version and either case. */
export function isUuid(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value);
}

/** In lower case. @throws LedgerError `invalid_request` naming the field */
export function readUuid(field: string, value: string): string {
  if (isUuid(value)) return value.toLowerCase();
  throw new LedgerError('invalid_request', `${field} must be a UUID`, { details: { field } });
}
