import { LedgerError } from '../errors.js';

/** What a key may do; the whole list, in the order in which it is shown. */
export const SCOPES = ['admin', 'usage:write', 'usage:read', 'gateway'] as const;

export type Scope = (typeof SCOPES)[number];

/** Scopes without repeats, in the order of `SCOPES`. @throws LedgerError `invalid_request` */
export function readScopes(scopes: readonly string[]): Scope[] {
  const allowed: readonly string[] = SCOPES;
  const unknown = scopes.find((scope) => !allowed.includes(scope));
  if (scopes.length === 0 || unknown !== undefined) {
    const problem =
      unknown === undefined ? 'must name at least one' : `has "${unknown.slice(0, 50)}"`;
    throw new LedgerError('invalid_request', `scopes ${problem}; allowed: ${SCOPES.join(', ')}`, {
      details: { field: 'scopes', allowed: [...SCOPES] },
    });
  }
  return SCOPES.filter((scope) => scopes.includes(scope));
}
