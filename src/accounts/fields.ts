import { LedgerError } from '../errors.js';
import { type Instant, parseInstant } from '../instant.js';
import { toMicrodollars } from '../money.js';

/**
 * Text that PostgreSQL stores as it is: no NUL, no lone surrogate. Identifiers are refused, not
 * cleaned: a cleaned one would name someone else.
 * @throws LedgerError `invalid_request` naming the field
 */
export function readText(field: string, value: string, maxLength = 256): string {
  if (typeof value !== 'string') throw invalidField(field, 'must be a string');
  if (value.length === 0) throw invalidField(field, 'must not be empty');
  if (value.length > maxLength)
    throw invalidField(field, `must have at most ${maxLength} characters`);
  if (value.includes('\0')) throw invalidField(field, 'must not contain a NUL byte');
  if (!value.isWellFormed()) throw invalidField(field, 'must be well-formed Unicode');
  return value;
}

/** Empty and absent optional text are null. */
export function readOptionalText(field: string, value: string | null | undefined): string | null {
  return value === undefined || value === null || value === '' ? null : readText(field, value);
}

/**
 * An amount that somebody writes, to microdollars. As text without an exponent: "1e9" is a slip more often
 * than a billion. A number has the notation of its program.
 * @throws LedgerError `invalid_event`, `out_of_range`
 */
export function writtenMicrodollars(usd: string | number): number {
  if (typeof usd === 'string' && /e/i.test(usd)) {
    const problem = `not an amount in USD: ${usd.trim().slice(0, 40)}; write it like 12.50`;
    throw new LedgerError('invalid_event', problem);
  }
  return toMicrodollars(usd);
}

/** USD to microdollars, rounded once; not 0. @throws LedgerError `invalid_request` */
export function readUsd(usd: string | number): number {
  let amountMicrodollars: number;
  try {
    amountMicrodollars = writtenMicrodollars(usd);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : 'is not an amount';
    throw new LedgerError('invalid_request', `usd: ${problem}`, {
      details: { field: 'usd' },
      cause,
    });
  }
  if (amountMicrodollars === 0)
    throw invalidField('usd', 'must not be 0 (after rounding to 0.000001)');
  return amountMicrodollars;
}

/** @throws LedgerError `invalid_request` naming the field */
export function readInstant(field: string, value: string | Date): Instant {
  const instant = parseInstant(value);
  if (instant !== null) return instant;
  throw invalidField(
    field,
    'must be an ISO 8601 instant with an offset, like 2026-11-22T10:00:00Z',
  );
}

export function invalidField(field: string, problem: string): LedgerError {
  return new LedgerError('invalid_request', `${field} ${problem}`, { details: { field } });
}

export function unknownUser(field = 'kilo_user_id', remedy = 'create the user first'): LedgerError {
  return new LedgerError('unknown_user', `${field} names no user; ${remedy}`, {
    details: { field },
  });
}

export function unknownOrganization(
  field = 'organization_id',
  remedy = 'create the organization first',
): LedgerError {
  return new LedgerError('unknown_organization', `${field} names no organization; ${remedy}`, {
    details: { field },
  });
}
