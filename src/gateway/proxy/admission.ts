import type { IncomingHttpHeaders } from 'node:http';
import { isUuid } from '../../ids.js';
import type { AccountsCache, GatewayPrincipal, Payer } from '../durable/types.js';
import { Refusal } from './refusal.js';

const BEARER = /^Bearer[ ]+(\S+)[ ]*$/i;

/** The gateway's key, as OpenAI's clients send it, or as Anthropic's do; null = none. */
export function readGatewayKey(headers: IncomingHttpHeaders): string | null {
  const bearer = BEARER.exec(headers.authorization ?? '')?.[1];
  if (bearer !== undefined) return bearer;
  const apiKey = headers['x-api-key'];
  return typeof apiKey === 'string' && apiKey !== '' ? apiKey : null;
}

/** @throws Refusal `unauthorized`, `forbidden`; LedgerError `unauthorized`, `unavailable` */
export async function authenticate(
  accounts: AccountsCache,
  key: string | null,
): Promise<GatewayPrincipal> {
  if (key === null) {
    throw new Refusal(
      'unauthorized',
      "send a key of this gateway as the client's API key (Authorization: Bearer, or x-api-key)",
    );
  }
  const principal = await accounts.authenticate(key);
  if (!principal.scopes.has('gateway')) {
    throw new Refusal(
      'forbidden',
      'this key lacks the scope gateway; make one that has it (key create --scope gateway)',
    );
  }
  return principal;
}

/**
 * Who pays: the organization that the header names, else that of the key, else the user.
 * @throws Refusal `invalid_request`, `forbidden`; LedgerError `unavailable`
 */
export async function resolvePayer(
  accounts: AccountsCache,
  principal: GatewayPrincipal,
  headers: IncomingHttpHeaders,
): Promise<Payer> {
  const { kiloUserId } = principal;
  if (kiloUserId === null) {
    throw new Refusal('forbidden', 'a service key has no user to bill; use a key of a user');
  }
  const organizationId = readOrganizationId(headers) ?? principal.organizationId;
  if (organizationId === null) return { kilo_user_id: kiloUserId, organization_id: null };
  if (principal.organizationId !== null && principal.organizationId !== organizationId) {
    throw forbiddenOrganization(
      'this key is limited to another organization; use a key of this one',
    );
  }
  if (!(await accounts.isMember(organizationId, kiloUserId))) {
    throw forbiddenOrganization(
      'the user of this key is not a member of the organization; add the user to it, or leave ' +
        'the header out',
    );
  }
  return { kilo_user_id: kiloUserId, organization_id: organizationId };
}

/** @throws Refusal `insufficient_balance`; LedgerError `unavailable`, `unknown_user`, ... */
export async function requireBalance(accounts: AccountsCache, payer: Payer): Promise<void> {
  const { remainingMicrodollars } = await accounts.admit(payer);
  requireLeft(payer, remainingMicrodollars);
}

/** @throws Refusal `insufficient_balance` */
export function requireLeft(payer: Payer, remainingMicrodollars: number): void {
  if (remainingMicrodollars > 0) return;
  const who = payer.organization_id === null ? 'this user' : 'this organization';
  throw new Refusal(
    'insufficient_balance',
    `the balance of ${who} is used up; add credit, and send the request again`,
  );
}

function readOrganizationId(headers: IncomingHttpHeaders): string | null {
  const value = headers['x-microdollar-organization-id'];
  if (value === undefined || value === '') return null;
  if (isUuid(value)) return value.toLowerCase();
  throw new Refusal('invalid_request', 'x-microdollar-organization-id must be a UUID', {
    param: 'x-microdollar-organization-id',
  });
}

function forbiddenOrganization(message: string): Refusal {
  return new Refusal('forbidden', message, { param: 'x-microdollar-organization-id' });
}
