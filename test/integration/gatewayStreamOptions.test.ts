import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReceivedRequest } from '../support/replayUpstream.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

const CHUNK =
  '{"id":"s","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}],' +
  '"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}';
const STREAM = `data: ${CHUNK}\n\ndata: [DONE]\n\n`;

function answerStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' }).end(STREAM);
}

interface RefusalAnswer {
  status: number;
  body: string | Buffer;
  headers?: Record<string, string>;
}

/** A provider that takes no `stream_options`; counts what it was asked. */
function refuseOptions(name: string, { status, body, headers }: RefusalAnswer) {
  const seen: string[] = [];
  gateway.upstream.script(name, (response, request) => {
    const text = String(request.body);
    seen.push(text);
    if (!text.includes('stream_options')) return answerStream(response);
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body);
  });
  return seen;
}

async function stream(model: string, more: object = {}) {
  const body = JSON.stringify({ model, stream: true, ...more });
  const response = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${user.key}`, 'content-type': 'application/json' },
    body,
  });
  const text = await response.text();
  const id = response.headers.get('x-microdollar-usage-id') ?? '';
  return { status: response.status, text, body, usage: () => gateway.usage(id) };
}

describe('a provider that refuses stream_options', () => {
  it.each<[string, RefusalAnswer]>([
    [
      'named, 422',
      {
        status: 422,
        body: '{"error":{"message":"Extra inputs are not permitted: stream_options","param":null}}',
      },
    ],
    [
      'named as the wrong parameter, 400',
      {
        status: 400,
        body: '{"error":{"message":"Unknown parameter","param":"stream_options","code":"unknown_parameter"}}',
      },
    ],
    ['not named', { status: 400, body: '{"error":{"message":"unknown field"}}' }],
    ['in no JSON', { status: 422, body: 'Unprocessable Entity' }],
    [
      'compressed',
      {
        status: 422,
        body: gzipSync('{"detail":"stream_options"}'),
        headers: { 'content-encoding': 'gzip' },
      },
    ],
    ['as its own failure', { status: 500, body: '{"error":"include_usage is not implemented"}' }],
  ])('%s: is sent the client’s own bytes once, and remembered', async (name, refusal) => {
    const seen = refuseOptions(name, refusal);
    const model = `script:${name}`;
    const first = await stream(model);
    expect([first.status, first.text]).toEqual([200, STREAM]);
    expect(seen).toHaveLength(2);
    expect(seen[0]).toContain('include_usage');
    expect(seen[1]).toBe(first.body);
    expect(await first.usage()).toMatchObject({
      input_tokens: 1000,
      output_tokens: 100,
      status_code: 200,
      has_error: false,
      estimated: null,
    });
    const second = await stream(model);
    expect([second.status, second.text]).toEqual([200, STREAM]);
    expect(seen).toHaveLength(3);
    expect(seen[2]).toBe(second.body);
  });

  it('is left alone where the client itself asks for them', async () => {
    const seen = refuseOptions('own', { status: 422, body: '{"error":"stream_options"}' });
    const options = { stream_options: { include_usage: true } };
    const answer = await stream('script:own', options);
    expect([answer.status, answer.text]).toEqual([422, '{"error":"stream_options"}']);
    expect(seen).toEqual([answer.body]);
  });
});

describe('an error that is the client’s own', () => {
  it.each([
    '{"error":{"message":"too long","param":"messages","code":"context_length_exceeded"}}',
    '{"error":{"message":"no such model","param":null,"code":"model_not_found"}}',
  ])('is passed at once: %s', async (body) => {
    let calls = 0;
    gateway.upstream.script('own fault', (response) => {
      calls++;
      response.writeHead(400, { 'content-type': 'application/json' }).end(body);
    });
    const answer = await stream('script:own fault');
    expect([answer.status, answer.text, calls]).toEqual([400, body, 1]);
    expect(await answer.usage()).toMatchObject({ has_error: true, cost: 0, status_code: 400 });
  });

  it('that names no cause is the one its own bytes get', async () => {
    const seen: ReceivedRequest[] = [];
    gateway.upstream.script('vague', (response, request) => {
      seen.push(request);
      response.writeHead(400, { 'x-try': String(seen.length) }).end(`bad request ${seen.length}`);
    });
    const answer = await stream('script:vague');
    expect([answer.status, answer.text]).toEqual([400, 'bad request 2']);
    // Nothing is remembered of a request that failed either way.
    await stream('script:vague');
    expect(String(seen[2]?.body)).toContain('stream_options');
  });

  it('of any length passes whole', async () => {
    const body = 'x'.repeat(300_000);
    gateway.upstream.script('long error', (response) => {
      response.writeHead(400, { 'content-type': 'text/plain' }).end(body);
    });
    const answer = await stream('script:long error');
    expect(answer.status).toBe(400);
    expect(answer.text).toBe(body);
  });
});

describe('the usage that was asked for', () => {
  it('leaves no trace in the stream of a client that did not ask', async () => {
    const chunk = '{"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]';
    gateway.upstream.script('as OpenAI', (response, request) => {
      const asked = String(request.body).includes('"include_usage":true');
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`data: ${chunk}${asked ? ',"usage":null' : ''}}\n\n`);
      if (asked) {
        response.write(
          'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1}}\n\n',
        );
      }
      response.end('data: [DONE]\n\n');
    });
    const answer = await stream('script:as OpenAI');
    expect(answer.text).toBe(`data: ${chunk}}\n\ndata: [DONE]\n\n`);
    expect(await answer.usage()).toMatchObject({ input_tokens: 7, output_tokens: 1 });
  });
});
