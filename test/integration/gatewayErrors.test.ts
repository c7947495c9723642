import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WIRE_APIS, WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import {
  exchangeBytes,
  openSocket,
  postBytes,
  readAnswer,
  requestBytes,
} from '../support/rawHttp.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

const SILENCE_MS = 3_000;

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway({
    server: { limits: { bodySilenceMs: SILENCE_MS } },
    gateway: { corsOrigins: ['https://app.example'] },
  });
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

interface Answer {
  status: number;
  head: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests assert on it.
  body: any;
}

async function send(bytes: Buffer): Promise<Answer> {
  const { head, body } = await exchangeBytes(gateway.url, bytes);
  const status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]);
  return { status, head, body: body.length === 0 ? null : JSON.parse(String(body)) };
}

const keyed = (more: Record<string, string> = {}) => ({
  authorization: `Bearer ${user.key}`,
  connection: 'close',
  ...more,
});

/** As the API's own clients read it. */
function expectShape(api: WireApi, { body }: Answer): void {
  const { error } = body;
  expect(error.message).toEqual(expect.any(String));
  expect(error.type).toEqual(expect.any(String));
  if (api === 'anthropic-messages') expect(body.type).toBe('error');
  else expect(error).toMatchObject({ code: expect.any(String) });
}

describe.each(WIRE_APIS)('%s: an error of the gateway has its shape', (api) => {
  const path = WIRE_PATHS[api];
  const version = api === 'anthropic-messages' ? { 'anthropic-version': '2023-06-01' } : {};

  it('404, which names the path and what exists', async () => {
    const answer = await send(postBytes(`${path}/nothing/here`, keyed(version), '{}'));
    expect(answer.status).toBe(404);
    expectShape(api, answer);
    expect(answer.body.error.message).toContain(`${path}/nothing/here`);
    expect(answer.body.error.message).toMatch(/\/v1\/embeddings|stored chat completions/);
    expect(answer.head).toMatch(/x-should-retry: false/i);
  });

  it('404 without /v1, which names what was meant', async () => {
    const answer = await send(postBytes(path.slice(3), keyed(version), '{}'));
    expect(answer.status).toBe(404);
    expectShape(api, answer);
    expect(answer.body.error.message).toContain(`did you mean POST ${path}?`);
  });

  it('405, with what is allowed', async () => {
    const answer = await send(requestBytes('PUT', path, keyed(version)));
    expect(answer.status).toBe(405);
    expectShape(api, answer);
    expect(answer.head).toMatch(/^allow: POST/im);
  });

  it('400 for a path that cannot be decoded', async () => {
    const answer = await send(postBytes(`${path}/%zz`, keyed(version), '{}'));
    expect(answer.status).toBe(400);
    expectShape(api, answer);
  });

  it('401, which nobody repeats', async () => {
    const headers = { ...keyed(version), authorization: 'Bearer md_wrong' };
    const answer = await send(postBytes(path, headers, '{"model":"m"}'));
    expect(answer.status).toBe(401);
    expectShape(api, answer);
    expect(answer.head).toMatch(/x-should-retry: false/i);
  });

  it('413', async () => {
    const headers = { ...keyed(version), 'content-length': String(40 * 1024 * 1024) };
    const answer = await send(postBytes(path, headers, ''));
    expect(answer.status).toBe(413);
    expectShape(api, answer);
  });

  it('415 for a compressed body', async () => {
    const body = gzipSync('{"model":"m"}');
    const headers = keyed({ ...version, 'content-encoding': 'gzip' });
    const answer = await send(postBytes(path, headers, body));
    expect(answer.status).toBe(415);
    expectShape(api, answer);
    expect(answer.head).toMatch(/accept-encoding: identity/i);
  });

  it('408 for a body that falls silent', async () => {
    const answer = await send(postBytes(path, keyed(version), '{"model":"m"}').subarray(0, -5));
    expect(answer.status).toBe(408);
    expectShape(api, answer);
    expect(answer.head).toMatch(/connection: close/i);
  });

  it('426 for a WebSocket, without a key too', async () => {
    const headers = { ...version, connection: 'Upgrade', upgrade: 'websocket' };
    const answer = await send(
      requestBytes('GET', path, {
        ...headers,
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        'sec-websocket-version': '13',
      }),
    );
    expect(answer.status).toBe(426);
    expectShape(api, answer);
  });

  it('431 and what is not HTTP', async () => {
    for (const bytes of [
      postBytes(path, keyed({ 'x-title': 'x'.repeat(70_000) }), '{}'),
      Buffer.from('NONSENSE\r\n\r\n'),
    ]) {
      const answer = await send(bytes);
      expect([400, 431]).toContain(answer.status);
      expectShape(api, answer);
    }
  });
});

it('a body that falls silent after its answer keeps no connection', async () => {
  const headers = { authorization: 'Bearer md_wrong' };
  const answer = await send(postBytes(WIRE_PATHS['openai-chat'], headers, '{}').subarray(0, -1));
  expect(answer.status).toBe(401);
});

it('a body that is only slow arrives, longer than the silence that is borne', async () => {
  const body = JSON.stringify({ model: 'gpt-4.1-nano', padding: 'x'.repeat(400) });
  const request = postBytes(WIRE_PATHS['openai-chat'], keyed(), body);
  const slow = await openSocket(gateway.url);
  const chunks: Buffer[] = [];
  slow.on('data', (chunk) => chunks.push(chunk));
  const closed = once(slow, 'close');
  const step = Math.ceil(request.length / 8);
  for (let at = 0; at < request.length; at += step) {
    slow.write(request.subarray(at, at + step));
    await sleep(SILENCE_MS / 5);
  }
  await closed;
  expect(readAnswer(Buffer.concat(chunks)).head).toMatch(/^HTTP\/1\.1 200 /);
});

describe('pages in a browser', () => {
  const preflight = (origin: string) =>
    requestBytes('OPTIONS', '/v1/chat/completions', {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type,x-stainless-lang',
    });

  it('of an origin that is allowed may call, and read errors and ids', async () => {
    const allowed = await send(preflight('https://app.example'));
    expect(allowed.status).toBe(204);
    expect(allowed.head).toMatch(/access-control-allow-origin: https:\/\/app\.example/i);
    expect(allowed.head).toMatch(/access-control-allow-headers: authorization,content-type/i);
    const origin = { origin: 'https://app.example' };
    const body = '{"model":"gpt-4.1-nano"}';
    for (const [headers, status] of [
      [keyed(origin), 200],
      [{ ...origin, connection: 'close' }, 401],
    ] as const) {
      const answer = await send(postBytes('/v1/chat/completions', headers, body));
      expect(answer.status).toBe(status);
      expect(answer.head).toMatch(/access-control-allow-origin: https:\/\/app\.example/i);
      expect(answer.head).toMatch(/access-control-expose-headers: .*x-microdollar-usage-id/i);
    }
  });

  it('of another origin may not', async () => {
    const refused = await send(preflight('https://evil.example'));
    expect(refused.status).toBe(405);
    expect(refused.head).not.toMatch(/access-control-allow/i);
    const headers = keyed({ origin: 'https://evil.example' });
    const answer = await send(postBytes('/v1/chat/completions', headers, '{"model":"m"}'));
    expect(answer.head).not.toMatch(/access-control-allow/i);
  });

  it('may not at all unless the operator says so, whatever the provider sends', async () => {
    const plain = await startTestGateway();
    try {
      const { key } = await plain.newUser();
      plain.upstream.script('cors', (response) => {
        response.writeHead(200, { 'access-control-allow-origin': '*', 'x-kept': 'yes' }).end('{}');
      });
      const headers = { authorization: `Bearer ${key}`, origin: 'https://app.example' };
      const url = `${plain.url}/v1/chat/completions`;
      const body = '{"model":"script:cors"}';
      const answer = await fetch(url, { method: 'POST', headers, body });
      expect(answer.headers.get('x-kept')).toBe('yes');
      expect(answer.headers.get('access-control-allow-origin')).toBeNull();
      expect((await fetch(url, { method: 'OPTIONS', headers })).status).toBe(405);
    } finally {
      await plain.stop();
    }
  });
});

describe('what clients say of themselves', () => {
  it.each([
    'openai-organization',
    'openai-project',
    'openai-beta',
    'anthropic-beta',
    'x-codex-beta-features',
    'session_id',
    'session-id',
    'originator',
    'x-app',
    'x-claude-code-session-id',
    'x-stainless-lang',
    'x-title',
    'http-referer',
  ])('%s reaches the provider', async (name) => {
    const headers = keyed({ [name]: 'value-of-the-client' });
    await send(postBytes('/v1/responses', headers, '{"model":"gpt-5"}'));
    const seen = gateway.upstream.requests.at(-1);
    expect(seen?.headers[name]).toBe('value-of-the-client');
  });
});
