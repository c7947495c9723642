import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../schema/unsettled.js';

/** Whose balance an event moves: the user's, or with an organization the organization's. */
export interface Payer {
  kilo_user_id: string;
  organization_id: string | null;
}

export function scopeOf(payer: Payer): PayerScope {
  return payer.organization_id === null ? USER_SCOPE : ORGANIZATION_SCOPE;
}

/** The payer's row. */
export function payerId(payer: Payer): string {
  return payer.organization_id ?? payer.kilo_user_id;
}

/** A payer's key: users and organizations do not share a name space. */
export function payerKey(payer: Payer): string {
  return payer.organization_id === null
    ? `user:${payer.kilo_user_id}`
    : `organization:${payer.organization_id}`;
}
