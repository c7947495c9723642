import type { LookupAddress } from 'node:dns';
import { describe, expect, it } from 'vitest';
import { guardedLookup, isPublicAddress, RefusedAddress } from '../../../src/alerts/address.js';
import { sendWebhook } from '../../../src/alerts/send.js';
import { readWebhookUrl } from '../../../src/alerts/webhookUrl.js';

const PUBLIC = [
  '1.1.1.1',
  '8.8.8.8',
  '93.184.216.34',
  '172.15.255.255',
  '172.32.0.0',
  '100.63.255.255',
  '100.128.0.0',
  '192.167.255.255',
  '169.253.255.255',
  '11.0.0.0',
  '2606:4700:4700::1111',
  '2a00:1450:4001:82a::200e',
  '2001:4860:4860::8888',
];

const REFUSED: [kind: string, addresses: string[]][] = [
  ['this network', ['0.0.0.0', '0.1.2.3']],
  ['loopback', ['127.0.0.1', '127.255.255.254', '::1']],
  ['private', ['10.0.0.1', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.0.1']],
  ['link-local', ['169.254.0.1', 'fe80::1', 'febf::1', 'fe80::1%eth0']],
  ['metadata', ['169.254.169.254', '169.254.170.2', 'fd00:ec2::254', '100.100.100.200']],
  ['shared by carriers', ['100.64.0.0', '100.127.255.255']],
  ['protocol assignments', ['192.0.0.1', '192.0.0.192', '192.0.0.255']],
  ['documentation', ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1']],
  ['benchmarks', ['198.18.0.1', '198.19.255.255', '2001:2::1']],
  ['multicast', ['224.0.0.1', '239.255.255.255', 'ff02::1']],
  ['reserved', ['240.0.0.1', '255.255.255.254']],
  ['broadcast', ['255.255.255.255']],
  ['unspecified', ['::']],
  ['unique local', ['fc00::1', 'fdff:ffff::1']],
  ['site-local of old', ['fec0::1', 'feff::1']],
  ['mapped', ['::ffff:127.0.0.1', '::ffff:10.0.0.1', '::ffff:7f00:1', '::ffff:8.8.8.8']],
  ['compatible', ['::127.0.0.1', '::a00:1', '::8.8.8.8']],
  ['translated', ['64:ff9b::a00:1', '64:ff9b::808:808', '64:ff9b:1::a00:1', '::ffff:0:a00:1']],
  ['6to4', ['2002:a00:1::', '2002:7f00:1::1', '192.88.99.1']],
  ['Teredo', ['2001::1', '2001:0:a00:1::']],
  ['ORCHID', ['2001:10::1', '2001:20::1']],
  ['discard only', ['100::1']],
  ['not given out', ['4000::1', '1::1', '5f00::1']],
  ['no address', ['', 'localhost', '1.2.3.4.5', '300.1.1.1', '0x7f000001x', 'g::1']],
];

describe('a public address', () => {
  it.each(PUBLIC)('is %s', (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });
});

describe('an address that is not public', () => {
  it.each(REFUSED)('%s', (_, addresses) => {
    expect(addresses.filter(isPublicAddress)).toEqual([]);
  });
});

const found =
  (...addresses: string[]) =>
  async (): Promise<LookupAddress[]> =>
    addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));

/** As a socket asks. */
const ask = (addresses: string[], all: boolean, allowsPrivate = false) =>
  new Promise((resolve, reject) => {
    const lookup = guardedLookup(found(...addresses), allowsPrivate);
    lookup('host.example', { all }, (error, address, family) =>
      error ? reject(error) : resolve(all ? address : [address, family]),
    );
  });

describe('the lookup of a socket', () => {
  it('answers with public addresses alone, in both of its forms', async () => {
    expect(await ask(['1.1.1.1', '8.8.8.8'], false)).toEqual(['1.1.1.1', 4]);
    expect(await ask(['1.1.1.1'], true)).toEqual([{ address: '1.1.1.1', family: 4 }]);
  });

  it.each([[['127.0.0.1']], [['1.1.1.1', '10.0.0.1']], [['2606:4700::1', 'fd00::1']]])(
    'refuses %j: one that is not public may be the one that is connected to',
    async (addresses) => {
      await expect(ask(addresses, true)).rejects.toThrow(RefusedAddress);
      await expect(ask(addresses, false)).rejects.toThrow(RefusedAddress);
    },
  );

  it('passes private ones where they are allowed, and fails where there is none', async () => {
    expect(await ask(['10.0.0.1'], false, true)).toEqual(['10.0.0.1', 4]);
    await expect(ask([], false)).rejects.toThrow(/no address/);
  });
});

it('what is told of a refusal, and kept after its user was deleted, names no host', async () => {
  for (const url of ['https://host.example/hook', 'https://10.1.1.1/hook']) {
    const rules = { allowsPrivate: false, lookup: found('10.1.1.1'), timeoutMs: 1_000 };
    const { error } = await sendWebhook(url, {}, '{}', rules);
    expect(error).toMatch(/an address that is not public$/);
    expect(error).not.toMatch(/host\.example|10\.1/);
  }
});

describe('the URL of a webhook', () => {
  const read = (url: string, allowsPrivate = false, ...addresses: string[]) =>
    readWebhookUrl(url, { allowsPrivate, lookup: found(...addresses) });

  it('is taken as a client would call it', async () => {
    expect(await read('https://Example.com/a?b=c#d', false, '1.1.1.1')).toBe(
      'https://example.com/a?b=c',
    );
    expect(await read('https://[2606:4700::1]:8443/')).toBe('https://[2606:4700::1]:8443/');
  });

  it.each([
    ['http://example.com', /must be https \(MICRODOLLAR_ALERTS_ALLOW_PRIVATE allows http\)/],
    ['ftp://example.com', /must be https$/],
    ['example.com', /must be a URL/],
    ['https://', /must be a URL/],
    ['https://user:secret@example.com', /must not carry a user/],
    [`https://example.com/${'x'.repeat(2_100)}`, /at most 2048/],
    ['https://127.0.0.1/', /not public/],
    ['https://2130706433/', /not public/],
    ['https://0x7f.1/', /not public/],
    ['https://0177.0.0.1/', /not public/],
    ['https://[::1]/', /not public/],
    ['https://[::ffff:169.254.169.254]/', /not public/],
    ['https://[fd00:ec2::254]/', /not public/],
  ])('is not %s', async (url, message) => {
    await expect(read(url, false, '1.1.1.1')).rejects.toMatchObject({
      code: 'invalid_request',
      details: { field: 'url' },
      message: expect.stringMatching(message),
    });
  });

  it('is not a name that leads to a private address, or nowhere', async () => {
    await expect(read('https://in.example', false, '1.1.1.1', '10.1.1.1')).rejects.toThrow(
      /not public/,
    );
    const nowhere = { allowsPrivate: false, lookup: () => Promise.reject(new Error('ENOTFOUND')) };
    await expect(readWebhookUrl('https://nowhere.example', nowhere)).rejects.toThrow(
      /cannot be found/,
    );
  });

  it('may be http and private where that is allowed', async () => {
    expect(await read('http://127.0.0.1:9000/hook', true)).toBe('http://127.0.0.1:9000/hook');
    await expect(read('ftp://127.0.0.1', true)).rejects.toThrow(/must be https/);
  });
});
