import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WIRE_APIS, WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { exchangeBytes, openSocket, postBytes, readAnswer } from '../support/rawHttp.js';
import {
  startTestGateway,
  type TestGateway,
  type TestUser,
  UPSTREAM_KEYS,
} from './gatewayHarness.js';

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway({ gateway: { trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'] } });
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

async function ask(api: WireApi, headers: Record<string, string>, body: object, search = '') {
  const response = await fetch(gateway.url + WIRE_PATHS[api] + search, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  await response.arrayBuffer();
  const usageId = response.headers.get('x-microdollar-usage-id') ?? '';
  return { response, usage: await gateway.usage(usageId) };
}

const bearer = () => ({ authorization: `Bearer ${user.key}` });
const lastRequest = () => {
  const request = gateway.upstream.requests.at(-1);
  if (request === undefined) throw new Error('the provider was not called');
  return request;
};

describe('to the provider', () => {
  it.each(WIRE_APIS)('%s: its own key, never the client’s, wherever that was put', async (api) => {
    const headers = {
      ...bearer(),
      'x-api-key': user.key,
      'api-key': 'azure-key-of-the-client',
      cookie: 'session=of-the-client',
      'proxy-authorization': 'Basic of-the-client',
      'x-client-request-id': `copied ${user.key}`,
      'x-organization': 'org-of-the-client',
      'x-forwarded-for': '203.0.113.9',
      'x-microdollar-feature': 'private',
      'anthropic-version': '2023-06-01',
      'anthropic-beta': 'tools-2024',
      'x-stainless-lang': 'js',
      'user-agent': 'my-client/1.0',
    };
    const model = 'any-model';
    await ask(api, headers, { model }, `?beta=true&key=${encodeURIComponent(user.key)}`);
    const seen = lastRequest();
    expect(seen.path).toBe(`${WIRE_PATHS[api]}?beta=true`);
    const everything = `${seen.rawHeaders.join('\n')}\n${seen.path}\n${seen.body}`;
    for (const secret of [user.key, 'of-the-client', '203.0.113.9', 'private', 'azure-key']) {
      expect(everything).not.toContain(secret);
    }
    const { authorization, 'x-api-key': apiKey } = seen.headers;
    expect(api === 'anthropic-messages' ? apiKey : authorization).toBe(
      api === 'anthropic-messages' ? UPSTREAM_KEYS.anthropic : `Bearer ${UPSTREAM_KEYS.openai}`,
    );
    expect(api === 'anthropic-messages' ? authorization : apiKey).toBeUndefined();
    expect(seen.headers).toMatchObject({
      'accept-encoding': 'identity',
      'anthropic-version': '2023-06-01',
      'anthropic-beta': 'tools-2024',
      'x-stainless-lang': 'js',
      'user-agent': 'my-client/1.0',
    });
  });

  it('the body as the client sent it, to the byte', async () => {
    const body = '{ "model":"gpt-4.1-nano",\n\t"messages" : [], "n":1.0, "é":"\\u00e9" }';
    await fetch(gateway.url + WIRE_PATHS['openai-chat'], {
      method: 'POST',
      headers: bearer(),
      body,
    });
    expect(String(lastRequest().body)).toBe(body);
  });

  it('one request, however the client frames two', async () => {
    const calls = gateway.upstream.calls;
    const inner = `GET /v1/secret HTTP/1.1\r\nhost: x\r\n\r\n`;
    const request = Buffer.from(
      `POST ${WIRE_PATHS['openai-chat']} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${user.key}\r\n` +
        `content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
    );
    const answer = await exchangeBytes(gateway.url, request);
    expect(answer.head).toMatch(/^HTTP\/1.1 400 /);
    expect(gateway.upstream.calls).toBe(calls);
  });

  it.each([
    ['a bare line feed', 'x-title: a\nx-api-key: smuggled'],
    ['a NUL byte', 'x-title: a\0b'],
    ['a space before the colon', 'x-title : a'],
  ])('no header with %s', async (_name, line) => {
    const calls = gateway.upstream.calls;
    const body = '{"model":"m"}';
    const request = Buffer.from(
      `POST ${WIRE_PATHS['openai-chat']} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n` +
        `authorization: Bearer ${user.key}\r\n${line}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      'latin1',
    );
    const answer = await exchangeBytes(gateway.url, request);
    expect(answer.head).toMatch(/^HTTP\/1.1 400 /);
    expect(gateway.upstream.calls).toBe(calls);
  });
});

describe('to the client', () => {
  it('the provider’s headers but its cookies and those of the connection', async () => {
    const headers = { authorization: `Bearer ${user.key}`, connection: 'close' };
    const answer = await exchangeBytes(
      gateway.url,
      postBytes(WIRE_PATHS['openai-chat'], headers, '{"model":"gpt-4.1-nano"}'),
    );
    expect(answer.head).toContain('x-Mixed-Case: Kept');
    expect(answer.head).toContain('openai-processing-ms: 12');
    expect(answer.head).toContain('x-request-id: req_of_openai');
    expect(answer.head).not.toMatch(/set-cookie|keep-alive/i);
    expect(answer.head.match(/x-request-id/gi)).toHaveLength(1);
  });

  it('bytes beyond ASCII as they came, also where the head leaves before the first byte', async () => {
    let goOn = () => {};
    const headLeft = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    gateway.upstream.script('slow', async (reply) => {
      reply.writeHead(200, { 'content-type': 'application/json', 'x-note': 'caf\xe9 \xc3\xa9' });
      reply.write(Buffer.alloc(0));
      await headLeft;
      reply.end('{}');
    });
    const headers = { authorization: `Bearer ${user.key}`, connection: 'close' };
    const socket = await openSocket(gateway.url);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      if (Buffer.concat(chunks).includes('\r\n\r\n')) goOn();
    });
    socket.write(postBytes(WIRE_PATHS['openai-chat'], headers, '{"model":"script:slow"}'));
    await once(socket, 'close');
    const { head } = readAnswer(Buffer.concat(chunks));
    expect(head).toContain('\r\nx-note: caf\xe9 \xc3\xa9\r\n');
  });

  it('its usage id, and a request id where the provider gives none', async () => {
    const { response } = await ask(
      'anthropic-messages',
      { 'x-api-key': user.key, 'x-request-id': 'asked-for' },
      { model: 'claude-sonnet-4-5' },
    );
    expect(response.headers.get('x-request-id')).toBe('asked-for');
    expect(response.headers.get('x-microdollar-request-id')).toBe('asked-for');
    expect(response.headers.get('request-id')).toBe('req_of_anthropic');
  });

  it('of a stream, that nginx is not to gather it', async () => {
    const buffering = async (stream: boolean) => {
      const { response } = await ask('openai-chat', bearer(), { model: 'gpt-4.1-nano', stream });
      return response.headers.get('x-accel-buffering');
    };
    expect([await buffering(true), await buffering(false)]).toEqual(['no', null]);
  });

  it('the provider’s list of models', async () => {
    const response = await fetch(`${gateway.url}/v1/models`, { headers: bearer() });
    expect(await response.json()).toMatchObject({ object: 'list' });
    expect(lastRequest().headers.authorization).toBe(`Bearer ${UPSTREAM_KEYS.openai}`);
    await fetch(`${gateway.url}/v1/models?limit=5`, {
      headers: { 'x-api-key': user.key, 'anthropic-version': '2023-06-01' },
    });
    expect(lastRequest()).toMatchObject({ path: '/v1/models?limit=5' });
    expect(lastRequest().headers['x-api-key']).toBe(UPSTREAM_KEYS.anthropic);
    expect((await fetch(`${gateway.url}/v1/models`)).status).toBe(401);
  });
});

describe('to the ledger', () => {
  it('what the headers say of the request', async () => {
    const { usage } = await ask(
      'openai-chat',
      {
        ...bearer(),
        'user-agent': 'editor/2.0',
        'x-forwarded-for': '198.51.100.7, 203.0.113.5, 10.1.2.3',
        'x-microdollar-feature': 'autocomplete',
        'x-microdollar-mode': 'architect',
        'x-microdollar-session-id': 'session-1',
      },
      { model: 'gpt-4.1-nano' },
    );
    expect(usage).toMatchObject({
      http_user_agent: 'editor/2.0',
      // The first address that no trusted proxy wrote; what comes before it, anyone may write.
      http_ip: '203.0.113.5',
      feature: 'autocomplete',
      mode: 'architect',
      session_id: 'session-1',
      api_kind: 'openai_chat',
      status_code: 200,
      upstream_id: 'req_of_openai',
    });
  });

  it.each(WIRE_APIS)('%s: which key paid, and for whom: headers before the body', async (api) => {
    const { usage } = await ask(
      api,
      {
        ...bearer(),
        'x-microdollar-end-user': 'customer-7',
        'x-microdollar-session': 'session-2',
        'x-microdollar-project': 'website',
        'x-microdollar-tags': 'red, blue,,red',
      },
      { model: 'any-model', user: 'of-the-body' },
    );
    expect(usage).toMatchObject({
      api_key_id: user.keyId,
      end_user: 'customer-7',
      session_id: 'session-2',
      project_id: 'website',
      tags: ['blue', 'red'],
    });
    expect(lastRequest().rawHeaders.join().toLowerCase()).not.toContain('x-microdollar');
  });

  it.each([
    [{ user: 'u-1' }, 'u-1'],
    [{ safety_identifier: 's-1', user: 'u-1' }, 's-1'],
    [{ metadata: { user_id: 'm-1' } }, 'm-1'],
    [{ user: 'x'.repeat(300) }, 'x'.repeat(256)],
    [{ user: 7, metadata: { user_id: null } }, null],
  ])('whom the body %j names', async (fields, endUser) => {
    const { usage } = await ask('openai-chat', bearer(), { model: 'any-model', ...fields });
    expect(usage.end_user).toBe(endUser);
  });

  it.each([
    ['x-microdollar-tags', Array.from({ length: 17 }, (_, index) => `t${index}`).join()],
    ['x-microdollar-tags', 't'.repeat(65)],
    ['x-microdollar-end-user', 'u'.repeat(257)],
    ['x-microdollar-session', 's'.repeat(257)],
    ['x-microdollar-project', 'p'.repeat(513)],
    ['x-microdollar-project-id', 'p'.repeat(513)],
  ])('a %s that is too long is refused before the provider is called', async (name, value) => {
    const calls = gateway.upstream.requests.length;
    const response = await fetch(gateway.url + WIRE_PATHS['openai-chat'], {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...bearer(), [name]: value },
      body: '{"model":"any-model"}',
    });
    expect(response.status).toBe(400);
    expect(await response.text()).toMatch(new RegExp(`${name} must h`));
    expect(gateway.upstream.requests).toHaveLength(calls);
  });

  it('an address from a stranger’s x-forwarded-for is not believed', async () => {
    const plain = await startTestGateway();
    try {
      const { key } = await plain.newUser();
      const response = await fetch(plain.url + WIRE_PATHS['openai-chat'], {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'x-forwarded-for': '203.0.113.5' },
        body: '{"model":"gpt-4.1-nano"}',
      });
      const usage = await plain.usage(response.headers.get('x-microdollar-usage-id') ?? '');
      expect(usage.http_ip).toBe('127.0.0.1');
    } finally {
      await plain.stop();
    }
  });

  it('a short piece of the prompt of a person, nothing of an organization’s', async () => {
    const organization = await gateway.newOrganization(10, user.id);
    const secret = 'the quick brown fox of the customer';
    const requests: [WireApi, object][] = [
      [
        'openai-chat',
        {
          model: 'gpt-4.1-nano',
          messages: [
            { role: 'system', content: `Be kind: ${secret}` },
            { role: 'user', content: `Hello: ${secret}` },
          ],
        },
      ],
      [
        'openai-responses',
        { model: 'gpt-5', instructions: `Be kind: ${secret}`, input: `Hello: ${secret}` },
      ],
      [
        'anthropic-messages',
        {
          model: 'claude-sonnet-4-5',
          system: `Be kind: ${secret}`,
          messages: [{ role: 'user', content: `Hello: ${secret}` }],
        },
      ],
    ];
    for (const [api, body] of requests) {
      const own = await ask(api, bearer(), body);
      expect(own.usage.user_prompt_prefix).toMatch(/^Hello: /);
      expect(own.usage.system_prompt_prefix).toMatch(/^Be kind: /);
      const billed = { ...bearer(), 'x-microdollar-organization-id': organization };
      const { usage } = await ask(api, billed, body);
      expect(usage.organization_id).toBe(organization);
      expect(JSON.stringify(usage)).not.toMatch(/fox|Hello|Be kind/);
      expect(usage.system_prompt_length).toBeGreaterThan(0);
    }
  });
});

describe('to the metrics', () => {
  const sample = async (line: string) => {
    const response = await fetch(`${gateway.url}/metrics`);
    expect(response.status).toBe(200);
    const found = (await response.text()).split('\n').find((each) => each.startsWith(line));
    return Number(found?.split(' ').at(-1) ?? 0);
  };

  it('requests by API and outcome, tokens, refusals by reason', async () => {
    const requests = 'microdollar_gateway_requests_total{api="openai_responses",outcome=';
    const tokens = 'microdollar_gateway_tokens_total{api="openai_responses",kind="input"}';
    const refusals = 'microdollar_gateway_refusals_total{api="openai_chat",reason="unauthorized"}';
    const inFlight = 'microdollar_gateway_in_flight{api="openai_responses"}';
    const lines = [`${requests}"complete"}`, `${requests}"upstream_error"}`, tokens, refusals];
    const before = await Promise.all(lines.map(sample));
    const { usage } = await ask('openai-responses', bearer(), { model: 'gpt-5' });
    await ask('openai-responses', bearer(), { model: 'replay:x?status=500' });
    await fetch(gateway.url + WIRE_PATHS['openai-chat'], { method: 'POST', body: '{}' });
    const after = await Promise.all(lines.map(sample));
    const grown = after.map((value, index) => value - (before[index] ?? 0));
    expect(grown).toEqual([1, 1, usage.input_tokens, 1]);
    expect(await sample(inFlight)).toBe(0);
    expect(await sample('microdollar_gateway_first_byte_seconds_count')).toBeGreaterThan(0);
  });
});

describe('to the log', () => {
  it('no key and no content, whatever went wrong', async () => {
    const body = { model: 'replay:text', messages: [{ content: 'words-of-the-prompt' }] };
    await ask('openai-chat', bearer(), { ...body, model: 'replay:x?status=500' });
    await ask('openai-responses', bearer(), { ...body, model: 'replay:none-such' });
    const socket = await openSocket(gateway.url);
    socket.end(postBytes('/v1/nothing', bearer(), JSON.stringify(body)));
    await new Promise((resolve) => socket.on('close', resolve).resume());
    await fetch(`${gateway.url}/v1/models?key=${user.key}`, { headers: bearer() });
    await fetch(gateway.url + WIRE_PATHS['openai-chat'], {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}x` },
      body: JSON.stringify(body),
    });
    const log = gateway.logLines.join('');
    expect(log).toContain('/v1/chat/completions');
    const secrets = [
      user.key,
      ...Object.values(UPSTREAM_KEYS),
      'words-of-the-prompt',
      'session=of',
    ];
    for (const secret of secrets) expect(log).not.toContain(secret);
  });
});
