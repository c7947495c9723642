import type pg from 'pg';
import { type ApiKeyIdentity, authenticateApiKey } from '../accounts/authenticate.js';

/** Where keys are looked for. */
export interface KeyHolders {
  readonly parts: readonly { readonly ledger: { pool: pg.Pool } }[];
}

/**
 * Whom a key acts for, on whatever shard it is; null: on none. With a shard away an unknown key may be one of
 * its own: that is no answer.
 * @throws LedgerError `unavailable`
 */
export async function authenticateKey(
  { parts }: KeyHolders,
  key: string,
): Promise<ApiKeyIdentity | null> {
  const [only] = parts;
  if (only !== undefined && parts.length === 1)
    return await authenticateApiKey(only.ledger.pool, key);
  const answers = await Promise.allSettled(
    parts.map(({ ledger }) => authenticateApiKey(ledger.pool, key)),
  );
  for (const answer of answers) {
    if (answer.status === 'fulfilled' && answer.value !== null) return answer.value;
  }
  const away = answers.find((answer) => answer.status === 'rejected');
  if (away !== undefined) throw away.reason;
  return null;
}
