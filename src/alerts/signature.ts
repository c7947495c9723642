import { createHmac, randomBytes } from 'node:crypto';

/** Standard Webhooks (https://www.standardwebhooks.com), symmetric signatures. */
const PREFIX = 'whsec_';
const SECRET_BYTES = 32;

/** A new secret, in the form that it is shown in. */
export function newWebhookSecret(): string {
  return PREFIX + randomBytes(SECRET_BYTES).toString('base64');
}

/**
 * Headers of one try to deliver `body`. During a rotation it is signed with both secrets, and whoever
 * verifies takes either.
 * @param id the same for every try @param sentAtMs of this one
 */
export function webhookHeaders(
  id: string,
  sentAtMs: number,
  body: string,
  secrets: readonly string[],
): Record<'webhook-id' | 'webhook-timestamp' | 'webhook-signature', string> {
  const timestamp = String(Math.floor(sentAtMs / 1_000));
  return {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': secrets.map((secret) => sign(secret, id, timestamp, body)).join(' '),
  };
}

function sign(secret: string, id: string, timestamp: string, body: string): string {
  const key = Buffer.from(secret.slice(PREFIX.length), 'base64');
  const hmac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`);
  return `v1,${hmac.digest('base64')}`;
}
