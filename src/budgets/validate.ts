import type { Payer } from '../counter/payer.js';
import { LedgerError } from '../errors.js';
import { type Cleaning, MAX_COST, validateEvent } from '../record/event.js';
import type { ReserveRequest } from './reserve.sql.js';
import type { HoldRequest } from './types.js';

const DEFAULT_EXPIRY_MS = 10 * 60_000;
export const MAX_EXPIRY_MS = 24 * 3_600_000;
const FIELDS: readonly string[] = [
  'id',
  'kilo_user_id',
  'organization_id',
  'api_key_id',
  'project_id',
  'amount',
  'expires_in_ms',
];

export interface ValidHold {
  request: ReserveRequest;
  payer: Payer;
}

/**
 * Names are checked, and cleaned, as those of the usage to come.
 * @throws LedgerError `invalid_event` naming the field
 */
export function validateHold(
  hold: HoldRequest,
  owner: string | null,
  cleaning: Cleaning,
): ValidHold {
  if (typeof hold !== 'object' || hold === null) throw invalidHold('hold', 'must be an object');
  const unknown = Object.keys(hold).find((field) => !FIELDS.includes(field));
  if (unknown !== undefined) {
    throw invalidHold(unknown.slice(0, 100), `is not a field; known: ${FIELDS.join(', ')}`);
  }
  const { amount, expires_in_ms: expiresInMs } = hold;
  const event = validateEvent(
    {
      id: hold.id ?? null,
      kilo_user_id: hold.kilo_user_id,
      organization_id: hold.organization_id ?? null,
      api_key_id: hold.api_key_id ?? null,
      project_id: hold.project_id ?? null,
      cost: 0,
    },
    cleaning,
  );
  return {
    payer: { kilo_user_id: event.kilo_user_id, organization_id: event.organization_id },
    request: {
      id: event.id,
      kilo_user_id: event.kilo_user_id,
      api_key_id: event.api_key_id,
      project_id: event.project_id,
      amount: readAmount(amount),
      owner,
      expires_in_ms: readExpiry(expiresInMs ?? DEFAULT_EXPIRY_MS),
      is_new: (hold.id ?? null) === null,
    },
  };
}

/** @throws LedgerError `invalid_event` */
export function readAmount(amount: unknown): number {
  if (Number.isSafeInteger(amount) && Number(amount) >= 0 && Number(amount) <= MAX_COST) {
    return Number(amount);
  }
  throw invalidHold('amount', `must be whole microdollars, 0 to ${MAX_COST}`);
}

function readExpiry(expiresInMs: unknown): number {
  if (Number.isSafeInteger(expiresInMs)) {
    const ms = Number(expiresInMs);
    if (ms > 0 && ms <= MAX_EXPIRY_MS) return ms;
  }
  throw invalidHold('expires_in_ms', `must be whole milliseconds, 1 to ${MAX_EXPIRY_MS}`);
}

export function invalidHold(field: string, problem: string): LedgerError {
  return new LedgerError('invalid_event', `${field} ${problem}`, { details: { field } });
}
