import { describe, expect, it } from 'vitest';
import { prepareRequest } from '../../src/gateway/processUsage/index.js';
import { createClientAddressReader } from '../../src/gateway/proxy/clientAddress.js';
import { toClientHeaders } from '../../src/gateway/proxy/headers.js';
import { DEFAULT_GATEWAY_LIMITS } from '../../src/gateway/proxy/limits.js';
import { chooseOnAbort } from '../../src/gateway/proxy/onAbort.js';
import type { UpstreamEntry } from '../../src/gateway/proxy/upstreamEntry.js';
import { Upstreams, upstreamHost } from '../../src/gateway/proxy/upstreams.js';

describe('the client’s address', () => {
  const read = createClientAddressReader(['10.0.0.0/8', '2001:db8::/32', '192.0.2.1']);

  it.each([
    ['203.0.113.1', '198.51.100.1', '203.0.113.1'],
    ['10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['::ffff:10.0.0.1', '198.51.100.1:4711', '198.51.100.1'],
    ['10.0.0.1', 'spoofed, 198.51.100.1, 192.0.2.1', '198.51.100.1'],
    ['10.0.0.1', '10.0.0.2, 10.0.0.3', '10.0.0.2'],
    ['10.0.0.1', 'unknown', '10.0.0.1'],
    ['2001:db8::1', '[2001:db9::5]:443', '2001:db9::5'],
    ['10.0.0.1', undefined, '10.0.0.1'],
    [undefined, '198.51.100.1', null],
  ])('%s forwarded for %s is %s', (remote, forwardedFor, expected) => {
    expect(read(remote, forwardedFor)).toBe(expected);
  });

  it.each(['localhost', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/x', ''])(
    'refuses %j as a trusted proxy',
    (entry) => {
      expect(() => createClientAddressReader([entry])).toThrow(
        expect.objectContaining({ code: 'invalid_request' }),
      );
    },
  );
});

describe('headers to the client', () => {
  it('drops what belongs to one connection, also what `connection` names', () => {
    const raw = ['Connection', 'close, X-Hop', 'x-hop', '1', 'Keep-Alive', 'timeout=5'];
    const kept = ['X-Kept', 'é', 'x-kept', 'twice', 'Content-Length', '5'];
    const passed = [...kept.slice(0, 4), 'x-own', 'mine'];
    expect(toClientHeaders([...raw, ...kept], { 'x-own': 'mine' }, { keepLength: false })).toEqual(
      passed,
    );
  });

  it('lets nobody else say what our own headers say', () => {
    const raw = ['X-Own', 'theirs', 'X-Request-Id', 'theirs'];
    const own = { 'x-own': 'mine', 'x-request-id': 'mine' };
    expect(toClientHeaders(raw, own, { keepLength: true })).toEqual([
      ...['X-Request-Id', 'theirs'],
      ...['x-own', 'mine'],
    ]);
  });
});

describe('the provider’s URL', () => {
  it.each(['no url', 'ftp://host', 'https://user:secret-word@host'])('refuses %j', (url) => {
    try {
      upstreamHost('openai', url);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: 'invalid_request' });
      expect((error as Error).message).toContain('MICRODOLLAR_OPENAI_URL');
      expect((error as Error).message).not.toContain('secret-word');
    }
  });
});

describe('what becomes of the provider’s work when the client leaves', () => {
  it('is said by its upstream, then by the gateway, then by its API', () => {
    const entry: UpstreamEntry = {
      name: 'own',
      api: 'anthropic',
      url: 'http://127.0.0.1:1',
      key: null,
      models: null,
      onAbort: 'drain',
    };
    const upstream = new Upstreams({}, [entry], DEFAULT_GATEWAY_LIMITS).forModel('anthropic', 'm');
    const prepared = prepareRequest('anthropic-messages', Buffer.from('{"stream":true}'));
    expect(chooseOnAbort(upstream, 'stop', prepared)).toBe('drain');
    expect(chooseOnAbort({ ...upstream, onAbort: null }, null, prepared)).toBe('stop');
  });

  it('is waited for as long as clients are told to: of a flex tier 15 minutes', () => {
    const { bodyTimeoutMs, headersTimeoutMs } = DEFAULT_GATEWAY_LIMITS;
    expect(headersTimeoutMs).toBeGreaterThan(15 * 60_000);
    expect(bodyTimeoutMs).toBeGreaterThanOrEqual(600_000);
  });

  it('is read as long as a client might have waited, where it is read at all', () => {
    const { drainTimeoutMs, headersTimeoutMs } = DEFAULT_GATEWAY_LIMITS;
    expect(drainTimeoutMs).toBeGreaterThanOrEqual(headersTimeoutMs);
  });
});
