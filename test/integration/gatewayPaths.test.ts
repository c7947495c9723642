import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inForm } from '../support/form.js';
import { exchangeBytes, postBytes, requestBytes } from '../support/rawHttp.js';
import {
  startTestGateway,
  type TestGateway,
  type TestUser,
  UPSTREAM_KEYS,
} from './gatewayHarness.js';

let gateway: TestGateway;
let user: TestUser;
let poor: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
  poor = await gateway.newUser({ usd: 0 });
  gateway.upstream.scriptPath(/^POST \/v1\/(moderations|messages\/count_tokens)$/, (response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"input_tokens":3}');
  });
});
afterAll(() => gateway?.stop());

const get = (target: string, key = user.key, headers: Record<string, string> = {}) =>
  exchangeBytes(
    gateway.url,
    requestBytes('GET', target, { authorization: `Bearer ${key}`, ...headers }),
  );
const post = (target: string, key = user.key, body = '{"model":"gpt-4.1-nano"}') =>
  exchangeBytes(
    gateway.url,
    postBytes(target, { authorization: `Bearer ${key}`, connection: 'close' }, body),
  );
const statusOf = ({ head }: { head: string }) => Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]);

describe('the provider is never asked for another path than the table has', () => {
  it.each([
    '/v1/models/../files',
    '/v1/models/%2e%2e/files',
    '/v1/models/..%2ffiles',
    '/v1/models/../responses/resp_1',
    '/v1/models/./../batches',
    '/v1/models/..;/files',
    '/v1/models/x/../../files',
    '/v1/models/%2e%2e%2f%2e%2e%2ffiles',
    '/v1/models//../files',
    '/v1/models\\..\\files',
    '//v1/models',
    '/v1/../v1/files',
    '/v1/models/..%c0%afbatches',
    '/v1/models/%ef%bc%8e%ef%bc%8e/files',
    '/v1/models/..%00/files',
    '/v1/models/%0d%0aHost:%20evil',
    '/v1/models;x/../files',
    '/V1/models',
    `/v1/models/${'a'.repeat(7_000)}`,
    `/v1/models/${'a/'.repeat(8)}files`,
  ])('GET %s', async (target) => {
    for (const key of [user.key, poor.key]) {
      const calls = gateway.upstream.calls;
      const answer = await get(target, key);
      expect(statusOf(answer)).toBeGreaterThanOrEqual(400);
      expect(statusOf(answer)).toBeLessThan(500);
      expect(JSON.parse(String(answer.body))).toMatchObject({
        error: { message: expect.any(String), type: 'invalid_request_error' },
      });
      expect(gateway.upstream.calls).toBe(calls);
    }
  });

  it('nor whatever else names a path', async () => {
    const seen = gateway.upstream.requests.length;
    const part = fc.constantFrom(
      ...['..', '.', '%2e%2e', '%2e', '', '%2f', '%5c', '\\', '..;', '%252e%252e', 'files'],
      ...['models', 'responses', 'messages', 'batches', 'resp_1', 'v1', 'gpt-4.1', '%00', '?', '#'],
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('/v1/', '/api/v1/', '/v1/models/', 'http://evil.example/v1/models/'),
        fc.array(part, { minLength: 1, maxLength: 6 }),
        async (start, parts) => {
          await get(start + parts.join('/'));
        },
      ),
      { numRuns: inForm(100, 300) },
    );
    const allowed = /^\/v1\/models(\/[A-Za-z0-9._~%-]+){0,4}(\?.*)?$/;
    for (const { path, headers, method } of gateway.upstream.requests.slice(seen)) {
      expect(method).toBe('GET');
      expect(path).toMatch(allowed);
      const [name = ''] = path.split('?', 1);
      expect(new URL(path, 'http://provider').pathname).toBe(name);
      expect(headers.host).toBe(new URL(gateway.upstream.url).host);
    }
    expect(gateway.upstream.requests.length).toBeGreaterThan(seen);
  });
});

describe('a request that can be read two ways', () => {
  const body = '{"model":"gpt-4.1-nano","messages":[]}';
  const hidden = 'GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n';
  it.each([
    [
      'length and chunks',
      `content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
    ],
    ['two lengths', `content-length: ${body.length}\r\ncontent-length: 5\r\n\r\n${body}`],
    ['a negative length', `content-length: -5\r\n\r\n${body}`],
    ['a name with a space', `transfer-encoding : chunked\r\n\r\n${body}`],
    ['a folded header', `x-title: a\r\n b\r\ncontent-length: ${body.length}\r\n\r\n${body}`],
    ['chunks that are none', 'transfer-encoding: chunked, identity\r\n\r\nxyz\r\n'],
  ])('%s: refused', async (_name, rest) => {
    const calls = gateway.upstream.calls;
    const head = `host: g\r\nauthorization: Bearer ${user.key}\r\nconnection: close\r\n`;
    const bytes = Buffer.from(`POST /v1/chat/completions HTTP/1.1\r\n${head}${rest}`);
    expect(statusOf(await exchangeBytes(gateway.url, bytes))).toBe(400);
    expect(gateway.upstream.calls).toBe(calls);
  });
});

describe('the operator’s key', () => {
  it.each([
    'http://attacker.example/v1/chat/completions',
    'https://attacker.example:8443/v1/messages',
    'HTTP://attacker.example/v1/models',
  ])('does not leave for %s', async (target) => {
    const calls = gateway.upstream.calls;
    for (const answer of [await post(target), await get(target)]) {
      expect(statusOf(answer)).toBe(400);
      expect(String(answer.body)).toContain('not a whole URL');
      expect(`${answer.head}${answer.body}`).not.toContain(UPSTREAM_KEYS.openai);
    }
    expect(gateway.upstream.calls).toBe(calls);
  });

  it('goes to the configured host, whatever the host header says', async () => {
    await get('/v1/models', user.key, { host: 'attacker.example' });
    const seen = gateway.upstream.requests.at(-1);
    expect(seen?.headers.host).toBe(new URL(gateway.upstream.url).host);
    expect(seen?.headers.authorization).toBe(`Bearer ${UPSTREAM_KEYS.openai}`);
  });
});

describe('what costs money needs credit', () => {
  it.each([
    '/v1/chat/completions',
    '/api/v1/chat/completions',
    '/v1/chat/completions/',
    '/v1/responses',
    '/v1/responses/compact',
    '/v1/messages',
    '/v1/messages?beta=true',
    '/v1/completions',
    '/v1/embeddings',
    '/v1/images/generations',
    '/v1/images/edits',
    '/v1/audio/transcriptions',
    '/v1/audio/translations',
    '/v1/audio/speech',
    '/v1/rerank',
  ])('POST %s: 402', async (target) => {
    const calls = gateway.upstream.calls;
    expect(statusOf(await post(target, poor.key))).toBe(402);
    expect(gateway.upstream.calls).toBe(calls);
  });

  it('what is free does not', async () => {
    expect(statusOf(await get('/v1/models', poor.key))).toBe(200);
    expect(statusOf(await get('/v1/models/gpt-4.1', poor.key))).toBe(200);
    expect(statusOf(await post('/v1/moderations', poor.key))).toBe(200);
    expect(statusOf(await post('/v1/messages/count_tokens?beta=true', poor.key))).toBe(200);
    expect(gateway.upstream.requests.at(-1)).toMatchObject({
      path: '/v1/messages/count_tokens?beta=true',
      headers: { 'x-api-key': UPSTREAM_KEYS.anthropic },
    });
  });
});
