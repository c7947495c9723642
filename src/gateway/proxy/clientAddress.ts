import { BlockList, isIP } from 'node:net';
import { LedgerError } from '../../errors.js';

/** The client's address, of which only the part that trusted proxies wrote is believed. */
export type ReadClientAddress = (
  remoteAddress: string | undefined,
  forwardedFor: string | undefined,
) => string | null;

/**
 * @param trustedProxies addresses and CIDR ranges, like `10.0.0.0/8`
 * @throws LedgerError `invalid_request` naming the entry that is neither
 */
export function createClientAddressReader(trustedProxies: readonly string[]): ReadClientAddress {
  const trusted = new BlockList();
  for (const entry of trustedProxies) addRange(trusted, entry);
  const isTrusted = (address: string) =>
    trusted.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  return (remoteAddress, forwardedFor) => {
    let client = normalize(remoteAddress ?? '');
    if (client === null || forwardedFor === undefined) return client;
    // From the nearest hop outwards, as long as a trusted proxy vouches for what it was told.
    for (const hop of forwardedFor.split(',').reverse()) {
      if (!isTrusted(client)) break;
      const next = normalize(hop.trim());
      if (next === null) break;
      client = next;
    }
    return client;
  };
}

function addRange(list: BlockList, entry: string): void {
  const [address = '', prefix] = entry.split('/');
  const version = isIP(address);
  const bits = version === 6 ? 128 : 32;
  const length = prefix === undefined ? bits : Number(prefix);
  const isRange = version !== 0 && Number.isInteger(length) && length >= 0 && length <= bits;
  if (!isRange || prefix === '') {
    throw new LedgerError(
      'invalid_request',
      `MICRODOLLAR_TRUSTED_PROXIES: "${entry.slice(0, 50)}" is neither an IP address nor a range ` +
        'like 10.0.0.0/8',
      { details: { field: 'MICRODOLLAR_TRUSTED_PROXIES' } },
    );
  }
  list.addSubnet(address, length, version === 6 ? 'ipv6' : 'ipv4');
}

/** IPv4 in IPv6 clothes is IPv4; a port is dropped. Null: no address. */
function normalize(text: string): string | null {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? text.replace(/^([\d.]+):\d+$/, '$1');
  const address = bare.replace(/^::ffff:(?=\d+\.)/i, '');
  return isIP(address) === 0 ? null : address;
}
