import { readUuid } from '../ids.js';
import type { Instant } from '../instant.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../schema/unsettled.js';
import { invalidField, readInstant, readOptionalText, readText, readUsd } from './fields.js';

export interface NewCredit {
  /** Makes a retry safe: the same again is a `duplicate` and moves nothing. */
  id?: string | null | undefined;
  /** Exactly one of user, organization. */
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
  /** Rounded once to the microdollar; negative takes back. */
  usd: string | number;
  description?: string | null | undefined;
  /** The same as `description`. */
  note?: string | null | undefined;
  /**
   * ISO 8601 with offset, in the future: usage of that time or later is not paid by this credit, and what is
   * left of it then leaves the balance. Default: never.
   */
  expires_at?: string | Date | null | undefined;
  /** Of credits that expire together the lower is used first; -1000 to 1000, default 0. */
  priority?: number | null | undefined;
}

export interface ValidCredit {
  id: string | null;
  scope: PayerScope;
  payerId: string;
  amountMicrodollars: number;
  description: string | null;
  expiresAt: Instant | null;
  priority: number;
}

const MAX_PRIORITY = 1_000;

/** @throws LedgerError `invalid_request` naming the field */
export function readNewCredit(credit: NewCredit): ValidCredit {
  const kiloUserId = credit.kilo_user_id ?? null;
  const organizationId = credit.organization_id ?? null;
  if ((kiloUserId === null) === (organizationId === null)) {
    throw invalidField('kilo_user_id', 'or organization_id: name exactly one of the two');
  }
  const amountMicrodollars = readUsd(credit.usd);
  const expiresAt = credit.expires_at == null ? null : readInstant('expires_at', credit.expires_at);
  if (expiresAt !== null && amountMicrodollars < 0) {
    throw invalidField('expires_at', 'is for credit that is added; leave it out to take back');
  }
  return {
    id: credit.id == null ? null : readUuid('id', credit.id),
    ...(organizationId === null
      ? { scope: USER_SCOPE, payerId: readText('kilo_user_id', kiloUserId ?? '') }
      : { scope: ORGANIZATION_SCOPE, payerId: readUuid('organization_id', organizationId) }),
    amountMicrodollars,
    description: readDescription(credit),
    expiresAt,
    priority: readPriority(credit.priority ?? 0),
  };
}

function readDescription({ description, note }: NewCredit): string | null {
  const own = readOptionalText('description', description);
  const other = readOptionalText('note', note);
  if (own !== null && other !== null && own !== other) {
    throw invalidField('note', 'is another name of description: give one of the two');
  }
  return own ?? other;
}

function readPriority(priority: unknown): number {
  if (Number.isInteger(priority) && Math.abs(Number(priority)) <= MAX_PRIORITY) {
    return Number(priority);
  }
  throw invalidField(
    'priority',
    `must be a whole number, -${MAX_PRIORITY} to ${MAX_PRIORITY}; the lower is used first`,
  );
}
