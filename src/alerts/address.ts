import type { LookupAddress } from 'node:dns';
import dns from 'node:dns';
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';

/** As `dns.lookup` with `all`; a test gives its own. */
export type LookupAll = (hostname: string) => Promise<LookupAddress[]>;

/** Of the system's resolver: files, search domains and all. */
export const systemLookup: LookupAll = (hostname) =>
  dns.promises.lookup(hostname, { all: true, verbatim: true });

/** What IANA has given out of IPv6 as global unicast; everything else is special, or nobody's. */
const GLOBAL_UNICAST = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number];

/**
 * Whether an address belongs to the public internet. Not: private, loopback, link-local (and with it the
 * metadata services of clouds), shared by carriers, unique local, multicast, reserved, documentation; nor
 * IPv6 that carries an IPv4 address within it (mapped, translated, 6to4, Teredo), which may be any of these.
 */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== 'unicast') return false;
  return parsed.kind() === 'ipv4' || (parsed as ipaddr.IPv6).match(GLOBAL_UNICAST);
}

/** An address that nobody may be made to connect to. Kept with the delivery, so it names no host (I11). */
export class RefusedAddress extends Error {
  readonly code = 'ERR_REFUSED_ADDRESS';

  constructor() {
    super('the URL has, or leads to, an address that is not public');
  }
}

/**
 * Addresses of a host, all of them public.
 * @throws RefusedAddress; the resolver's error
 */
export async function lookUpPublic(hostname: string, lookup: LookupAll): Promise<LookupAddress[]> {
  const addresses = await lookup(hostname);
  // One that is not may be the one that is connected to.
  if (!addresses.every(({ address }) => isPublicAddress(address))) {
    throw new RefusedAddress();
  }
  return addresses;
}

/**
 * For a socket: it connects to an address that was just looked at, so a name that leads elsewhere by then
 * (DNS rebinding) is refused. Addresses in the URL itself are never looked up: check them before.
 */
export function guardedLookup(lookup: LookupAll, allowsPrivate: boolean): LookupFunction {
  return (hostname, options, callback) => {
    const found = allowsPrivate ? lookup(hostname) : lookUpPublic(hostname, lookup);
    found.then(
      (addresses) => {
        const [first] = addresses;
        if (first === undefined) callback(notFound(hostname), '', 0);
        else if (options.all) callback(null, addresses);
        else callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 0),
    );
  };
}

function notFound(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${hostname} has no address`), { code: 'ENOTFOUND' });
}
