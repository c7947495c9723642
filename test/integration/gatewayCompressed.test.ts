import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import zlib from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { exchangeBytes, postBytes } from '../support/rawHttp.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

const CHAT = JSON.stringify({
  id: 'z',
  object: 'chat.completion',
  model: 'gpt-4o-2024-08-06',
  choices: [{ index: 0, message: { role: 'assistant', content: 'word '.repeat(200) } }],
  usage: { prompt_tokens: 50_000, completion_tokens: 3_000, total_tokens: 53_000 },
});
const MESSAGE = JSON.stringify({
  id: 'msg_1',
  type: 'message',
  model: 'claude-sonnet-4-5',
  content: [{ type: 'text', text: 'hello' }],
  stop_reason: 'end_turn',
  usage: { input_tokens: 11, output_tokens: 7 },
});

/** Newer Node.js has it. */
const { zstdCompressSync } = zlib as { zstdCompressSync?: (bytes: Buffer) => Buffer };

const CODINGS: Record<string, (bytes: Buffer) => Buffer> = {
  GZIP: zlib.gzipSync,
  gzip: zlib.gzipSync,
  'x-gzip': zlib.gzipSync,
  deflate: zlib.deflateSync,
  br: zlib.brotliCompressSync,
  // Without zlib's header.
  'deflate, identity': zlib.deflateRawSync,
  ...(zstdCompressSync === undefined ? {} : { zstd: zstdCompressSync }),
  'gzip, br': (bytes) => zlib.brotliCompressSync(zlib.gzipSync(bytes)),
};

/** The answer as bytes, in pieces, and its row. */
async function ask(api: WireApi, name: string, more: object = {}) {
  const answer = await exchangeBytes(
    gateway.url,
    postBytes(
      WIRE_PATHS[api],
      { authorization: `Bearer ${user.key}`, connection: 'close' },
      JSON.stringify({ model: `script:${name}`, ...more }),
    ),
  );
  const id = /x-microdollar-usage-id: (\S+)/.exec(answer.head)?.[1] ?? '';
  return { ...answer, row: await gateway.usage(id) };
}

function script(name: string, type: string, coding: string, body: Buffer): void {
  gateway.upstream.script(name, async (response) => {
    response.writeHead(200, { 'content-type': type, 'content-encoding': coding });
    for (let at = 0; at < body.length; at += 100) {
      response.write(body.subarray(at, at + 100));
      await sleep(1);
    }
    response.end();
  });
}

describe.each(Object.entries(CODINGS))('%s, though identity was asked for', (coding, encode) => {
  it('a whole answer passes as it came, and is read', async () => {
    const body = encode(Buffer.from(CHAT));
    script(`chat ${coding}`, 'application/json', coding, body);
    const answer = await ask('openai-chat', `chat ${coding}`);
    expect(answer.head).toContain(`content-encoding: ${coding}`);
    expect(answer.isComplete).toBe(true);
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.row).toMatchObject({
      input_tokens: 50_000,
      output_tokens: 3_000,
      cost: 155_000,
      estimated: null,
    });
  });

  it('a stream, too', async () => {
    const events =
      `event: message_start\ndata: {"type":"message_start","message":${MESSAGE}}\n\n` +
      'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},' +
      '"usage":{"output_tokens":9}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n';
    const body = encode(Buffer.from(events));
    script(`messages ${coding}`, 'text/event-stream', coding, body);
    const answer = await ask('anthropic-messages', `messages ${coding}`, { stream: true });
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.row).toMatchObject({ input_tokens: 11, output_tokens: 9, estimated: null });
  });

  it('a stream of which something is taken out passes decoded', async () => {
    const chunk = '{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"a"}}]';
    const usage = '{"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}';
    const events = `data: ${chunk},"usage":null}\n\ndata: ${usage}\n\ndata: [DONE]\n\n`;
    script(`hidden ${coding}`, 'text/event-stream', coding, encode(Buffer.from(events)));
    const answer = await ask('openai-chat', `hidden ${coding}`, { stream: true });
    expect(answer.head).not.toMatch(/content-encoding/i);
    expect(String(answer.body)).toBe(`data: ${chunk}}\n\ndata: [DONE]\n\n`);
    expect(answer.row).toMatchObject({ input_tokens: 5, output_tokens: 2, estimated: null });
  });
});

it('asks for what it can always read, whatever the client takes', async () => {
  const answer = await exchangeBytes(
    gateway.url,
    postBytes(
      WIRE_PATHS['openai-chat'],
      {
        authorization: `Bearer ${user.key}`,
        connection: 'close',
        'accept-encoding': 'zstd, br, gzip',
      },
      JSON.stringify({ model: 'script:chat gzip' }),
    ),
  );
  expect(answer.isComplete).toBe(true);
  expect(gateway.upstream.requests.at(-1)?.headers['accept-encoding']).toBe('identity');
});

describe('what cannot be decoded', () => {
  it.each([
    ['an unknown coding', 'snappy', Buffer.from('no json at all')],
    ['no bytes at all', 'deflate', Buffer.alloc(0)],
    ['bytes that are not of the coding', 'gzip', Buffer.from('this is not gzip at all')],
    ['a bomb', 'gzip', zlib.gzipSync(Buffer.alloc(300 << 20, ' '))],
  ])('%s passes as it came, and is flagged', async (name, coding, body) => {
    gateway.upstream.script(name, (response) => {
      response.writeHead(200, { 'content-encoding': coding }).end(body);
    });
    const answer = await ask('openai-chat', name);
    expect(answer.isComplete).toBe(true);
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.row).toMatchObject({ estimated: 'missing_usage', has_error: false });
  });

  it('a stream in an unknown coding passes as it came, though something should be taken out', async () => {
    const body = Buffer.from('data: whatever it is\n\n');
    script('unknown stream', 'text/event-stream', 'snappy', body);
    const answer = await ask('openai-chat', 'unknown stream', { stream: true });
    expect(answer.head).toContain('content-encoding: snappy');
    expect([String(answer.body), answer.isComplete]).toEqual([String(body), true]);
    expect(answer.row).toMatchObject({ estimated: 'missing_usage' });
  });

  it('a stream that cannot be decoded to its end is no whole one', async () => {
    const events = Array.from({ length: 40 }, () => {
      const content = randomBytes(100).toString('hex');
      return `data: {"id":"c","choices":[{"index":0,"delta":{"content":"${content}"}}]}\n\n`;
    }).join('');
    const body = zlib.gzipSync(events);
    // Of its checksum.
    body[body.length - 6] = (body[body.length - 6] ?? 0) ^ 1;
    script('half gzip', 'text/event-stream', 'gzip', body);
    const answer = await ask('openai-chat', 'half gzip', { stream: true });
    expect(answer.body.length).toBeGreaterThan(0);
    expect(events.startsWith(String(answer.body))).toBe(true);
    expect(answer.isComplete).toBe(false);
    expect(answer.row).toMatchObject({ has_error: true });
  });

  it('what broke off is read as far as it came', async () => {
    const events =
      'event: message_start\ndata: {"type":"message_start","message":' +
      `${MESSAGE.replace('"output_tokens":7', '"output_tokens":1')}}\n\n`;
    const body = zlib.gzipSync(events.repeat(1));
    gateway.upstream.script('broken gzip', (response) => {
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'content-encoding': 'gzip',
      });
      response.write(body.subarray(0, -8), () => response.socket?.end());
    });
    const answer = await ask('anthropic-messages', 'broken gzip', { stream: true });
    expect(answer.isComplete).toBe(false);
    expect(answer.row).toMatchObject({ input_tokens: 11, has_error: true });
  });
});
