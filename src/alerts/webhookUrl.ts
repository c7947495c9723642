import { isIP } from 'node:net';
import { invalidField, readText } from '../accounts/fields.js';
import type { LedgerError } from '../errors.js';
import { isPublicAddress, type LookupAll, lookUpPublic, RefusedAddress } from './address.js';

export interface UrlRules {
  /** http, and addresses of the operator's own network. */
  allowsPrivate: boolean;
  lookup: LookupAll;
}

const MAX_LENGTH = 2_048;

/**
 * A URL that webhooks may be sent to, as it is called. Where its name leads is looked at here, for whoever
 * sets it, and again at each connection.
 * @throws LedgerError `invalid_request` naming `url`
 */
export async function readWebhookUrl(value: string, rules: UrlRules): Promise<string> {
  readText('url', value, MAX_LENGTH);
  if (!URL.canParse(value))
    throw invalidField('url', 'must be a URL like https://example.com/hook');
  const url = new URL(value);
  if (url.protocol !== 'https:' && !(rules.allowsPrivate && url.protocol === 'http:')) {
    const allowed =
      url.protocol === 'http:' ? ' (MICRODOLLAR_ALERTS_ALLOW_PRIVATE allows http)' : '';
    throw invalidField('url', `must be https${allowed}`);
  }
  if (url.username !== '' || url.password !== '') {
    throw invalidField('url', 'must not carry a user or password; deliveries are signed instead');
  }
  url.hash = '';
  if (!rules.allowsPrivate) await requirePublic(url, rules.lookup);
  return url.href;
}

/** Whether the host of a URL is an address, not a name, and not a public one. */
export function isPrivateLiteral(url: URL): boolean {
  const host = hostOf(url);
  return isIP(host) !== 0 && !isPublicAddress(host);
}

async function requirePublic(url: URL, lookup: LookupAll): Promise<void> {
  if (isPrivateLiteral(url)) throw refused();
  if (isIP(hostOf(url)) !== 0) return;
  try {
    await lookUpPublic(hostOf(url), lookup);
  } catch (error) {
    if (error instanceof RefusedAddress) throw refused();
    throw invalidField('url', 'names a host that cannot be found');
  }
}

function refused(): LedgerError {
  return invalidField(
    'url',
    'leads to an address that is not public (MICRODOLLAR_ALERTS_ALLOW_PRIVATE allows those)',
  );
}

/** IPv6 addresses without their brackets. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}
