import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { SCOPES, type Scope } from '../accounts/scopes.js';
import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import { authenticateKey } from '../shards/authenticateKey.js';

/** Who calls. */
export interface Principal {
  /** For logs: the key's id, never the key. */
  keyId: string;
  /** The user it acts for; null = a service key. */
  kiloUserId: string | null;
  /** Of a user's key: payer of its gateway traffic. Of a service key: its only organization. */
  organizationId: string | null;
  scopes: ReadonlySet<Scope>;
}

/** Who is told to have done something: the user, or a service key. */
export const actorOf = ({ kiloUserId, keyId }: Principal): string => kiloUserId ?? keyId;

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by `requireScope`. */
    principal: Principal | null;
  }
}

export type Authenticate = (token: string | null) => Promise<Principal>;

const ADMIN: Principal = {
  keyId: 'admin',
  kiloUserId: null,
  organizationId: null,
  scopes: new Set(SCOPES),
};
const MAX_TOKEN_LENGTH = 512;

/** @throws LedgerError `unauthorized` (from the result), `unavailable` */
export function createAuthenticator(ledger: Ledger, adminKey: string | undefined): Authenticate {
  // Compared as digests: equal lengths, and the time tells nothing about the key.
  const adminDigest = adminKey ? sha256(adminKey) : null;
  return async (token) => {
    if (token === null) {
      throw new LedgerError('unauthorized', 'send a key: Authorization: Bearer <key>');
    }
    if (token.length > MAX_TOKEN_LENGTH) throw wrongKey();
    if (adminDigest !== null && timingSafeEqual(sha256(token), adminDigest)) return ADMIN;
    const identity = await authenticateKey(ledger, token);
    if (identity === null) throw wrongKey();
    return {
      keyId: identity.id,
      kiloUserId: identity.kilo_user_id,
      organizationId: identity.organization_id,
      scopes: new Set(identity.scopes),
    };
  };
}

/** The key of a request; null when there is none. */
export function readToken(headers: IncomingHttpHeaders, apiKeyHeader = false): string | null {
  const match = /^Bearer[ ]+(\S+)[ ]*$/i.exec(headers.authorization ?? '');
  if (match?.[1]) return match[1];
  const apiKey = headers['x-api-key'];
  return apiKeyHeader && typeof apiKey === 'string' && apiKey !== '' ? apiKey : null;
}

/** @throws LedgerError `forbidden` naming the scope */
export function checkScope(principal: Principal, scope: Scope): void {
  if (principal.scopes.has(scope)) return;
  const has = [...principal.scopes].join(', ') || 'none';
  throw new LedgerError('forbidden', `this key lacks the scope ${scope}; it has: ${has}`, {
    details: { scope },
  });
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function wrongKey(): LedgerError {
  return new LedgerError('unauthorized', 'the key is wrong or was revoked');
}
