import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { WIRE_APIS, WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { openSocket, postBytes, type RawAnswer, readAnswer } from '../support/rawHttp.js';
import {
  startTestGateway,
  type TestGateway,
  type TestUser,
  type UsageRow,
} from './gatewayHarness.js';

let gateway: TestGateway;
afterEach(() => gateway?.stop());

/** What each API has said when its stream has begun. */
const FIRST_EVENTS = {
  'openai-chat': 'data: {"model":"gpt-4.1-nano","choices":[{"delta":{"content":"a"}}]}\n\n',
  'openai-responses':
    'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"gpt-5"}}\n\n',
  'anthropic-messages':
    'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-sonnet-4-5",' +
    '"usage":{"input_tokens":9,"output_tokens":1}}}\n\n',
} as const satisfies Record<WireApi, string>;

interface Begun {
  answer: Promise<RawAnswer>;
  provider: ServerResponse;
  user: TestUser;
  leave(): void;
}

/** An answer that has begun: both of its ends. `first` null: not even its head has come. */
async function begin(api: WireApi, first: string | null): Promise<Begun> {
  const user = await gateway.newUser();
  const begun = new Promise<ServerResponse>((resolve) => {
    gateway.upstream.script('answer', (response) => {
      if (first !== null) {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(first);
      }
      resolve(response);
    });
  });
  const socket = await openSocket(gateway.url);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  const answer = once(socket, 'close').then(() => readAnswer(Buffer.concat(chunks)));
  const body = JSON.stringify({ model: 'script:answer', stream: first !== null, max_tokens: 50 });
  const headers = { authorization: `Bearer ${user.key}`, connection: 'close' };
  socket.write(postBytes(WIRE_PATHS[api], headers, body));
  const provider = await begun;
  if (first !== null) await once(socket, 'data');
  return { answer, provider, user, leave: () => void socket.destroy() };
}

async function onlyRow(): Promise<UsageRow> {
  const rows = await gateway.rows<{ id: string }>('select id from microdollar_usage');
  expect(rows).toHaveLength(1);
  return gateway.usage(rows[0]?.id ?? '');
}

async function untilNobodyIsConnected(): Promise<void> {
  const { server } = gateway.server.app;
  const count = () =>
    new Promise<number>((resolve) =>
      server.getConnections((_, connections) => resolve(connections)),
    );
  while ((await count()) > 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('until its time is up, a stop', () => {
  it('lets answers in flight end as they would, is not ready, and takes no new request', async () => {
    gateway = await startTestGateway();
    const { answer, provider, user } = await begin('openai-chat', FIRST_EVENTS['openai-chat']);
    const closed = gateway.server.close();
    const ready = await fetch(`${gateway.url}/readyz`);
    expect(ready.status).toBe(503);
    expect((await fetch(`${gateway.url}/healthz`)).status).toBe(200);
    const refused = await fetch(`${gateway.url}/v1/messages`, {
      method: 'POST',
      headers: { 'x-api-key': user.key },
      body: '{"model":"claude-sonnet-4-5"}',
    });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(await refused.json()).toMatchObject({
      type: 'error',
      error: { type: 'overloaded_error', message: 'the server is shutting down' },
    });
    provider.end('data: [DONE]\n\n');
    const { body, isComplete } = await answer;
    expect(isComplete).toBe(true);
    expect(String(body)).toMatch(/\[DONE\]\n\n$/);
    await closed;
    await expect(fetch(`${gateway.url}/healthz`)).rejects.toThrow();
    expect(await onlyRow()).toMatchObject({ has_error: false, cancelled: false });
  });

  it('reads on for clients that have left', async () => {
    gateway = await startTestGateway();
    const { provider, leave } = await begin('openai-responses', FIRST_EVENTS['openai-responses']);
    leave();
    await untilNobodyIsConnected();
    const closed = gateway.server.close();
    const usage = '"usage":{"input_tokens":4,"output_tokens":700,"total_tokens":704}';
    provider.end(
      `data: {"type":"response.completed","response":{"id":"r","status":"completed",${usage}}}\n\n`,
    );
    await closed;
    expect(await onlyRow()).toMatchObject({ cancelled: true, output_tokens: 700, estimated: null });
  });
});

describe('a body that has not come whole', () => {
  it.each(WIRE_APIS)('of %s is answered 503, and holds nobody', async (api) => {
    gateway = await startTestGateway();
    const { key } = await gateway.newUser();
    const socket = await openSocket(gateway.url);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    const ended = once(socket, 'close');
    const headers = { authorization: `Bearer ${key}`, 'content-length': '1000' };
    const seen = once(gateway.server.app.server, 'request');
    socket.write(postBytes(WIRE_PATHS[api], headers, '{"model":"gpt-5","input":"'));
    await seen;
    // Its time would be 25 s.
    await gateway.server.close();
    await ended;
    const { head, body } = readAnswer(Buffer.concat(chunks));
    expect(head).toMatch(/^HTTP\/1\.1 503 /);
    expect(head).toMatch(/retry-after: 1/i);
    const { error } = JSON.parse(String(body));
    expect(error.message).toContain('shutting down');
    expect(error.type).toBe(api === 'anthropic-messages' ? 'overloaded_error' : 'server_error');
    expect(gateway.upstream.calls).toBe(0);
    expect(await gateway.rows('select id from microdollar_usage')).toEqual([]);
  });
});

const SHORT = { gateway: { limits: { shutdownTimeoutMs: 200 } } };

describe('when its time is up, a stop', () => {
  it.each(WIRE_APIS)('tells the client of %s, and records that it was us', async (api) => {
    gateway = await startTestGateway(SHORT);
    const { answer, provider } = await begin(api, FIRST_EVENTS[api]);
    const left = once(provider, 'close');
    await gateway.server.close();
    await left;
    const { body, isComplete } = await answer;
    expect(isComplete).toBe(false);
    const events = String(body).trimEnd().split('\n\n');
    expect(`${events[0]}\n\n`).toBe(FIRST_EVENTS[api]);
    const last = events.at(-1) ?? '';
    const payload = JSON.parse(last.slice(last.indexOf('data: ') + 6));
    const message = expect.stringContaining('shutting down');
    if (api === 'openai-chat') {
      expect(payload).toMatchObject({ error: { message, type: 'server_error' } });
    } else if (api === 'openai-responses') {
      expect(payload).toMatchObject({ type: 'error', message, code: 'unavailable' });
    } else {
      expect(last).toMatch(/^event: error\n/);
      expect(payload).toMatchObject({ type: 'error', error: { message } });
    }
    const row = await onlyRow();
    expect(row).toMatchObject({
      has_error: true,
      cancelled: false,
      finish_reason: 'gateway_shutdown',
      estimated: expect.any(String),
    });
    expect(row.output_tokens).toBeGreaterThan(0);
  });

  it('answers 503 where nothing of the answer has come', async () => {
    gateway = await startTestGateway(SHORT);
    const { answer, provider } = await begin('openai-chat', null);
    const left = once(provider, 'close');
    await gateway.server.close();
    await left;
    const { head, body } = await answer;
    expect(head).toMatch(/^HTTP\/1\.1 503 /);
    expect(head).toMatch(/retry-after: 1/i);
    expect(JSON.parse(String(body))).toMatchObject({ error: { code: 'unavailable' } });
    const row = await onlyRow();
    expect(row).toMatchObject({ cancelled: false, has_error: true });
    expect(row.input_tokens).toBeGreaterThan(0);
    expect(row.output_tokens).toBeGreaterThan(0);
  });

  it('cuts a whole answer amid its bytes', async () => {
    gateway = await startTestGateway(SHORT);
    gateway.upstream.script('half', (response) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1_000 });
      response.write('{"half":');
    });
    const { key } = await gateway.newUser();
    const socket = await openSocket(gateway.url);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    const closed = once(socket, 'close');
    const headers = { authorization: `Bearer ${key}` };
    socket.write(postBytes(WIRE_PATHS['openai-chat'], headers, '{"model":"script:half"}'));
    await once(socket, 'data');
    await gateway.server.close();
    await closed;
    expect(readAnswer(Buffer.concat(chunks)).isComplete).toBe(false);
    expect(await onlyRow()).toMatchObject({ cancelled: false, finish_reason: 'gateway_shutdown' });
  });

  it('of a client that had left it stays the client’s doing', async () => {
    gateway = await startTestGateway(SHORT);
    const { leave, provider } = await begin('openai-chat', FIRST_EVENTS['openai-chat']);
    leave();
    await untilNobodyIsConnected();
    const left = once(provider, 'close');
    await gateway.server.close();
    await left;
    expect(await onlyRow()).toMatchObject({ cancelled: true, estimated: expect.any(String) });
  });

  it('of an answer whose end has come, nothing is cut', async () => {
    gateway = await startTestGateway(SHORT);
    const end = 'data: [DONE]\n\n';
    const { answer } = await begin('openai-chat', FIRST_EVENTS['openai-chat'] + end);
    await gateway.server.close();
    const { body, isComplete } = await answer;
    expect([String(body), isComplete]).toEqual([FIRST_EVENTS['openai-chat'] + end, true]);
    expect(await onlyRow()).toMatchObject({ has_error: false, cancelled: false });
  });
});
