import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findAnswer, frameAnswer, WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { exchangeBytes, openSocket, postBytes, readAnswer } from '../support/rawHttp.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

const DRAIN_BYTES = 200_000;
const FLOOD_BYTES = 200_000_000;

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway({
    gateway: {
      limits: { drainTimeoutMs: 3_000, drainBytes: DRAIN_BYTES, stallTimeoutMs: 1_500 },
    },
  });
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

const headers = () => ({ authorization: `Bearer ${user.key}`, connection: 'close' });
const post = (api: WireApi, model: string, extra: object = {}) =>
  postBytes(WIRE_PATHS[api], headers(), JSON.stringify({ model, stream: true, ...extra }));

/** The provider's side of one stream, once its request is there. */
function openScript(name: string): Promise<ServerResponse> {
  return new Promise((resolve) => {
    gateway.upstream.script(name, (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      resolve(response);
    });
  });
}

const delta = (text: string) =>
  `data: ${JSON.stringify({ id: 'c', model: 'gpt-4.1-nano', choices: [{ index: 0, delta: { content: text }, finish_reason: null }] })}\n\n`;

describe('each chunk as it arrives', () => {
  it('passes what came before the provider sends more', async () => {
    const opening = openScript('stepwise');
    const socket = await openSocket(gateway.url);
    const seen = { text: '' };
    const sees = async (text: string) => {
      while (!seen.text.includes(text)) await once(socket, 'data');
    };
    socket.on('data', (chunk) => {
      seen.text += String(chunk);
    });
    socket.write(post('openai-chat', 'script:stepwise'));
    const response = await opening;
    response.flushHeaders();
    await sees('text/event-stream');
    for (const text of ['one', 'two', 'three']) {
      response.write(delta(text));
      await sees(text);
    }
    response.end('data: [DONE]\n\n');
    await once(socket, 'close');
    const { body, isComplete } = readAnswer(Buffer.from(seen.text));
    expect(isComplete).toBe(true);
    expect(String(body)).toBe(`${delta('one')}${delta('two')}${delta('three')}data: [DONE]\n\n`);
  });

  it('holds the end of a whole answer until its usage is in the ledger', async () => {
    const blocker = await gateway.database.pool.connect();
    const met = async () =>
      (await gateway.ledger.metrics.retries.get()).values
        .filter(({ labels }) => labels.cause === '55P03')
        .reduce((sum, { value }) => sum + value, 0);
    const before = await met();
    const model = 'replay:text?held';
    try {
      await blocker.query('begin');
      await blocker.query('lock table microdollar_usage in share mode');
      const socket = await openSocket(gateway.url);
      let received = Buffer.alloc(0);
      let isClosed = false;
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk]);
      });
      const closed = once(socket, 'close').then(() => {
        isClosed = true;
      });
      socket.write(postBytes(WIRE_PATHS['openai-responses'], headers(), JSON.stringify({ model })));
      // A write waits for milliseconds at a time, too short to be seen; that it met the lock is counted.
      while (!isClosed && (await met()) === before) await sleep(5);
      expect(readAnswer(received).isComplete).toBe(false);
      await blocker.query('commit');
      await closed;
      expect(readAnswer(received).isComplete).toBe(true);
    } finally {
      await blocker.query('rollback');
      blocker.release();
    }
    expect(await gateway.usageOf(model)).toMatchObject({ has_error: false });
  });
});

describe('a provider that dies', () => {
  it.each([
    ['openai-chat', 'text', 5_000],
    ['openai-responses', 'web-search', 20_000],
    ['anthropic-messages', 'code-execution', 9_000],
  ] as const)(
    '%s: what arrived is passed on, then the connection is cut',
    async (api, name, at) => {
      const model = `replay:${name}?usage=always&dieAfterBytes=${at}&chunkBytes=700`;
      const asks = { stream_options: { include_usage: true } };
      const answer = await exchangeBytes(gateway.url, post(api, model, asks));
      expect(answer.isComplete).toBe(false);
      expect(answer.body.equals(frameAnswer(findAnswer(api, name, true)).subarray(0, at))).toBe(
        true,
      );
      expect(await gateway.usageOf(model)).toMatchObject({
        has_error: true,
        status_code: 200,
        cancelled: false,
        estimated: expect.any(String),
      });
    },
  );

  it('answers 502 in the API format when it dies before it answers', async () => {
    gateway.upstream.script('dies', (response) => void response.socket?.destroy());
    const answer = await exchangeBytes(gateway.url, post('anthropic-messages', 'script:dies'));
    expect(answer.head).toMatch(/^HTTP\/1.1 502 /);
    expect(JSON.parse(String(answer.body))).toMatchObject({
      type: 'error',
      error: { type: 'api_error' },
    });
    expect(await gateway.usageOf('script:dies')).toMatchObject({ has_error: true, cost: 0 });
  });

  it('cuts a whole answer where the provider cut it', async () => {
    const model = 'replay:text?dieAfterBytes=300';
    const request = postBytes(
      WIRE_PATHS['anthropic-messages'],
      headers(),
      JSON.stringify({ model }),
    );
    const answer = await exchangeBytes(gateway.url, request);
    expect(answer.isComplete).toBe(false);
    expect(answer.body.length).toBe(300);
    expect(await gateway.usageOf(model)).toMatchObject({ has_error: true });
  });
});

describe('a client that leaves', () => {
  it('is billed for the whole answer, which is read to its end', async () => {
    const model = 'replay:long-text?usage=always&chunkBytes=8000&delayMs=5';
    const socket = await openSocket(gateway.url);
    socket.write(post('openai-chat', model));
    await once(socket, 'data');
    socket.destroy();
    expect(await gateway.usageOf(model)).toMatchObject({
      cancelled: true,
      has_error: false,
      output_tokens: findAnswer('openai-chat', 'long-text', true).usage.outputTokens,
      estimated: null,
    });
  });

  it('is drained to the limit of bytes, then estimated', async () => {
    const opening = openScript('endless');
    const before = gateway.upstream.aborted;
    const socket = await openSocket(gateway.url);
    socket.write(post('openai-chat', 'script:endless'));
    const response = await opening;
    response.write(delta('some words'));
    await once(socket, 'data');
    socket.destroy();
    const more = delta('word '.repeat(400));
    const closed = once(response, 'close');
    const timer = setInterval(() => response.write(more), 1);
    await closed;
    clearInterval(timer);
    expect(gateway.upstream.aborted).toBe(before + 1);
    const row = await gateway.usageOf('script:endless');
    expect(row).toMatchObject({ cancelled: true, estimated: expect.any(String) });
    expect(row.output_tokens).toBeGreaterThan(0);
  });

  it('is drained to the limit of time, then estimated', async () => {
    const opening = openScript('silent');
    const socket = await openSocket(gateway.url);
    socket.write(post('anthropic-messages', 'script:silent'));
    const response = await opening;
    response.flushHeaders();
    await once(socket, 'data');
    socket.destroy();
    await once(response, 'close');
    expect(await gateway.usageOf('script:silent')).toMatchObject({
      cancelled: true,
      estimated: expect.any(String),
    });
  });
});

describe('a slow client', () => {
  it('slows the provider down instead of filling memory, and has left when it takes nothing', async () => {
    const opening = openScript('flood');
    const socket = await openSocket(gateway.url);
    socket.write(post('openai-chat', 'script:flood'));
    const response = await opening;
    response.write(delta('first'));
    await once(socket, 'data');
    socket.pause();
    const piece = delta('x'.repeat(64 * 1024));
    // The sockets between take some; without back-pressure the gateway would take it all.
    let writtenBytes = 0;
    const closed = new Promise<void>((resolve) => response.on('close', resolve));
    while (!response.destroyed && writtenBytes < FLOOD_BYTES) {
      writtenBytes += piece.length;
      if (response.write(piece)) continue;
      const drained = new Promise<void>((resolve) => response.once('drain', resolve));
      await Promise.race([drained, closed]);
    }
    expect(writtenBytes).toBeLessThan(FLOOD_BYTES);
    expect(await gateway.usageOf('script:flood')).toMatchObject({ cancelled: true });
    socket.destroy();
  });

  it('gets everything when it reads on', async () => {
    const model = 'replay:mcp?chunkBytes=60000';
    const socket = await openSocket(gateway.url);
    const chunks: Buffer[] = [];
    socket.write(post('openai-responses', model));
    for await (const chunk of socket) {
      chunks.push(chunk);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const answer = readAnswer(Buffer.concat(chunks));
    expect(answer.isComplete).toBe(true);
    expect(answer.body.equals(frameAnswer(findAnswer('openai-responses', 'mcp', true)))).toBe(true);
  });
});

describe('malformed answers', () => {
  it.each([
    ['no event at all', 'this is no event stream'],
    ['broken JSON', 'data: {"id":"c","choices":[{"delta":{"content":"a\n\ndata: [DONE]\n\n'],
    ['bytes that are no text', Buffer.from([0x64, 0x61, 0x74, 0x61, 0x3a, 0xff, 0xfe, 0x0a, 0x0a])],
    ['no usage', `${delta('words without a count')}data: [DONE]\n\n`],
    ['nothing', ''],
  ])('%s: passed on unchanged, recorded as an estimate', async (name, body) => {
    const model = `script:${name}`;
    gateway.upstream.script(name, (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(body);
    });
    const answer = await exchangeBytes(gateway.url, post('openai-chat', model));
    expect(answer.isComplete).toBe(true);
    expect(answer.body.equals(Buffer.from(body))).toBe(true);
    expect(await gateway.usageOf(model)).toMatchObject({ estimated: expect.any(String) });
  });

  it('a whole answer that is no JSON is passed on unchanged', async () => {
    gateway.upstream.script('html', (response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<html>not what you asked</html>');
    });
    const answer = await exchangeBytes(gateway.url, post('openai-responses', 'script:html'));
    expect(String(answer.body)).toBe('<html>not what you asked</html>');
    expect(await gateway.usageOf('script:html')).toMatchObject({ estimated: expect.any(String) });
  });
});

describe('errors of the provider', () => {
  it.each([
    ['openai-chat', 429],
    ['openai-responses', 500],
    ['anthropic-messages', 400],
    ['anthropic-messages', 529],
  ] as const)('%s %i passes byte for byte, at no cost', async (api, status) => {
    const model = `replay:any?status=${status}`;
    const request = post(api, model);
    const direct = await exchangeBytes(gateway.upstream.url, request);
    const through = await exchangeBytes(gateway.url, request);
    expect(through.head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(through.head).toContain('retry-after: 7');
    expect(through.body.equals(direct.body)).toBe(true);
    const id = /x-microdollar-usage-id: (\S+)/.exec(through.head)?.[1] ?? '';
    expect(await gateway.usage(id)).toMatchObject({
      has_error: true,
      cost: 0,
      status_code: status,
      output_tokens: 0,
      estimated: null,
    });
  });
});
