import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import zlib from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WIRE_PATHS } from '../support/answers/index.js';
import { exchangeBytes, openSocket, postBytes, readAnswer } from '../support/rawHttp.js';
import { NEITHER } from '../unit/gateway/hostileUsage.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

/** Clients and providers that speak HTTP as few do, byte by byte over sockets of their own. */
const PATH = WIRE_PATHS['openai-chat'];
const CHAT =
  '{"id":"c","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"message":' +
  '{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],' +
  '"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}';
const CHUNK = '{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hello."}}]}';
const STOP =
  '{"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}';
const USAGE =
  '{"id":"c","model":"gpt-4o","choices":[],' +
  '"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}';
const EVENTS = [CHUNK, STOP, USAGE, '[DONE]'];
const METERED = { input_tokens: 1_000, output_tokens: 100, cost: 3_500, estimated: null };
/** Of all bodies in flight; half of it may be coming of one user. */
const MOST_BYTES = 8_000_000;
const ASKED = { stream: true, stream_options: { include_usage: true } };

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway({ gateway: { limits: { bodiesInFlightBytes: MOST_BYTES } } });
  user = await gateway.newUser();
  gateway.upstream.script('whole', (reply) => {
    reply.writeHead(200, { 'content-type': 'application/json' }).end(CHAT);
  });
});
afterAll(() => gateway?.stop());

const bodyOf = (name: string, more: object = {}) =>
  JSON.stringify({ model: `script:${name}`, ...more });
const bytesOf = (name: string, headers: object = {}, more: object = {}) =>
  postBytes(PATH, { authorization: `Bearer ${user.key}`, ...headers }, bodyOf(name, more));
const CLOSE = { connection: 'close' };
const usageIdsIn = (text: string) =>
  [...text.matchAll(/x-microdollar-usage-id: (\S+)/g)].map(([, id]) => id ?? '');

async function ask(name: string, more: object = {}) {
  const answer = await exchangeBytes(gateway.url, bytesOf(name, CLOSE, more));
  return { ...answer, row: await gateway.usage(usageIdsIn(answer.head)[0] ?? '') };
}

function scriptStream(name: string, bytes: Buffer, headers: object = {}, step = bytes.length) {
  gateway.upstream.script(name, async (reply: ServerResponse) => {
    reply.writeHead(200, { 'content-type': 'text/event-stream', ...headers });
    for (let at = 0; at < bytes.length; at += step) {
      await new Promise((sent) => reply.write(bytes.subarray(at, at + step), sent));
    }
    reply.end();
  });
}

describe('a client', () => {
  it.each([
    ['whole', {}, CHAT],
    ['HTTP/1.0 stream', ASKED, EVENTS.map((data) => `data: ${data}\n\n`).join('')],
  ])('of HTTP/1.0 gets its answer to the end of the connection: %s', async (name, more, body) => {
    if (name !== 'whole') scriptStream(name, Buffer.from(body));
    const request = String(bytesOf(name, {}, more)).replace('HTTP/1.1', 'HTTP/1.0');
    const { bytes } = await exchangeBytes(gateway.url, Buffer.from(request));
    const [head = ''] = String(bytes).split('\r\n\r\n', 1);
    expect(head).toMatch(/^HTTP\/1\.[01] 200 /);
    expect(head).not.toMatch(/transfer-encoding/i);
    expect(String(bytes).slice(head.length + 4)).toBe(body);
    expect(await gateway.usage(usageIdsIn(head)[0] ?? '')).toMatchObject(METERED);
  });

  it('that sends requests ahead gets the answers in their order', async () => {
    gateway.upstream.script('slow whole', async (reply) => {
      await sleep(50);
      reply.writeHead(200, { 'content-type': 'application/json' }).end(CHAT);
    });
    const socket = await openSocket(gateway.url);
    let seen = '';
    socket.on('data', (data) => {
      seen += String(data);
    });
    socket.write(
      Buffer.concat([
        bytesOf('slow whole'),
        bytesOf('whole', { authorization: 'Bearer wrong' }),
        bytesOf('whole', CLOSE),
      ]),
    );
    await once(socket, 'close');
    const statuses = [...seen.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
    expect(statuses).toEqual(['200', '401', '200']);
    const ids = usageIdsIn(seen);
    expect(ids).toHaveLength(2);
    for (const id of ids) expect(await gateway.usage(id)).toMatchObject(METERED);
  });

  it('that asks whether to go on is told so before it sends its body', async () => {
    const socket = await openSocket(gateway.url);
    let seen = '';
    socket.on('data', (data) => {
      seen += String(data);
    });
    const request = bytesOf('whole', { expect: '100-continue', ...CLOSE });
    const at = request.indexOf('\r\n\r\n') + 4;
    socket.write(request.subarray(0, at));
    while (!seen.includes('100 Continue')) await once(socket, 'data');
    socket.write(request.subarray(at));
    await once(socket, 'close');
    expect(seen).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /);
    expect(seen).toContain(CHAT);
  });

  it('that sends its body in chunks, byte by byte, with trailers', async () => {
    const body = bodyOf('whole');
    const head = [
      `POST ${PATH} HTTP/1.1`,
      'host: gateway',
      `authorization: Bearer ${user.key}`,
      'transfer-encoding: chunked',
      'trailer: x-checksum',
      'connection: close',
    ];
    const chunks = [...body].map((byte) => `1;ext=1\r\n${byte}\r\n`).join('');
    const text = `${head.join('\r\n')}\r\n\r\n${chunks}0\r\nx-checksum: ${user.key}\r\n\r\n`;
    const answer = await exchangeBytes(gateway.url, Buffer.from(text));
    expect(String(answer.body)).toBe(CHAT);
    const seen = gateway.upstream.requests.at(-1);
    expect([String(seen?.body), seen?.headers['x-checksum']]).toEqual([body, undefined]);
  });

  it('that leaves amid its body costs nothing, and holds nothing', async () => {
    const { calls } = gateway.upstream;
    const before = await gateway.rows('select id from microdollar_usage');
    for (let at = 0; at < 70; at++) {
      const socket = await openSocket(gateway.url);
      const request = bytesOf('whole');
      socket.write(request.subarray(0, -1), () => socket.destroy());
      await once(socket, 'close');
    }
    expect(gateway.upstream.calls).toBe(calls);
    expect(await gateway.rows('select id from microdollar_usage')).toHaveLength(before.length);
    await expect.poll(() => gateway.rows('select id from gateway_intents')).toEqual([]);
    expect((await ask('whole')).row).toMatchObject(METERED);
    expect(gateway.logLines.join('')).not.toContain('gateway failed');
  });

  it('that sends its body slowly takes room for it, and of half of the room no more', async () => {
    const send = async (key: string, bytes: number) => {
      const socket = await openSocket(gateway.url);
      const headers = { authorization: `Bearer ${key}`, 'content-length': String(MOST_BYTES) };
      socket.write(postBytes(PATH, headers, 'x'.repeat(bytes)));
      return { socket, answer: once(socket, 'data').then(([data]) => String(data)) };
    };
    const status = async (padding: number) => {
      const request = bytesOf('whole', CLOSE, { padding: 'x'.repeat(padding) });
      const { head } = await exchangeBytes(gateway.url, request);
      return /^HTTP.1.1 (\d+)/.exec(head)?.[1];
    };
    const users = [await gateway.newUser(), await gateway.newUser(), await gateway.newUser()];
    const almostHalf = MOST_BYTES / 2 - 100_000;
    const slow = [];
    for (const { key } of users) slow.push(await send(key, almostHalf));
    // There is room for two of them.
    const refused = await Promise.race(slow.map(({ answer }) => answer));
    expect(refused).toMatch(/^HTTP.1.1 503 /);
    for (const { socket } of slow) socket.destroy();
    await expect.poll(() => status(almostHalf)).toBe('200');
    const greedy = await send(user.key, MOST_BYTES / 2 + 1_000);
    expect(await greedy.answer).toMatch(/^HTTP.1.1 503 /);
    greedy.socket.destroy();
    await expect.poll(() => status(almostHalf)).toBe('200');
  });

  it('that offers another protocol is answered in this one', async () => {
    const request = bytesOf('whole', {
      connection: 'upgrade, http2-settings, close',
      upgrade: 'h2c',
      'http2-settings': 'AAMAAABkAARAAAAAAAIAAAAA',
    });
    const answer = await exchangeBytes(gateway.url, request);
    expect(answer.head).toMatch(/^HTTP\/1\.1 200 /);
    expect(gateway.upstream.requests.at(-1)?.headers.upgrade).toBeUndefined();
  });

  it('with too many headers is told so', async () => {
    const answer = await exchangeBytes(
      gateway.url,
      bytesOf('whole', { 'x-title': 'a'.repeat(20_000) }),
    );
    expect(answer.head).toMatch(/^HTTP\/1\.1 431 /);
    expect(JSON.parse(String(answer.body))).toMatchObject({ error: { code: 'invalid_request' } });
  });

  it('that asks for the head alone gets it', async () => {
    const text =
      `HEAD /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer ${user.key}\r\n` +
      'connection: close\r\n\r\n';
    const answer = await exchangeBytes(gateway.url, Buffer.from(text));
    expect(answer.head).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer.body).toHaveLength(0);
  });
});

describe('a provider', () => {
  it.each([
    ['of another language', '200 成功'],
    ['with bytes of no language', '200 \xe4\xff'],
    ['with a control character', '200 O\x01K'],
    ['without words', '200 '],
  ])('whose status is %s answers as it does', async (name, status) => {
    const bytes = Buffer.from(status, name.includes('bytes') ? 'latin1' : 'utf8');
    for (const more of [{}, ASKED]) {
      gateway.upstream.script(name, ({ socket }) => {
        const type = more === ASKED ? 'text/event-stream' : 'application/json';
        const body = more === ASKED ? EVENTS.map((data) => `data: ${data}\n\n`).join('') : CHAT;
        const head = `\r\ncontent-type: ${type}\r\nconnection: close\r\n\r\n`;
        socket?.write(Buffer.concat([Buffer.from('HTTP/1.1 '), bytes, Buffer.from(head)]));
        // The head by itself, then what it is the head of.
        setTimeout(() => socket?.end(body), 50);
      });
      const answer = await ask(name, more);
      const [line = ''] = answer.head.split('\r\n', 1);
      expect(line.trimEnd()).toBe(name.includes('control') ? 'HTTP/1.1 200 OK' : 'HTTP/1.1 200');
      expect(answer.row).toMatchObject(METERED);
    }
  });

  it('that hints before it answers', async () => {
    gateway.upstream.script('hints', (reply) => {
      reply.writeProcessing();
      reply.writeEarlyHints({ link: '</a>; rel=preload' }, () => {
        reply.writeHead(200, { 'content-type': 'application/json' }).end(CHAT);
      });
    });
    const answer = await ask('hints');
    expect(answer.bytes.toString()).toMatch(/^HTTP\/1\.1 200 /);
    expect(String(answer.body)).toBe(CHAT);
    expect(answer.row).toMatchObject(METERED);
  });

  it('that sends trailers', async () => {
    gateway.upstream.script('trailers', (reply) => {
      reply.writeHead(200, { 'content-type': 'application/json', trailer: 'x-cost' });
      reply.write(CHAT);
      reply.addTrailers({ 'x-cost': '1' });
      reply.end();
    });
    const answer = await ask('trailers');
    expect([String(answer.body), answer.isComplete]).toEqual([CHAT, true]);
    expect(answer.row).toMatchObject(METERED);
  });

  it.each([301, 303, 307, 308])(
    'that answers %i is elsewhere: it costs nothing',
    async (status) => {
      gateway.upstream.script(`moved ${status}`, (reply) => {
        reply
          .writeHead(status, { location: 'https://elsewhere.example/' })
          .end('<html>moved</html>');
      });
      const answer = await ask(`moved ${status}`, status === 307 ? { stream: true } : {});
      expect(answer.head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      expect(String(answer.body)).toBe('<html>moved</html>');
      expect(answer.row).toMatchObject({
        cost: 0,
        has_error: true,
        status_code: status,
        estimated: null,
      });
    },
  );

  it('that pads its answer while it works', async () => {
    gateway.upstream.script('padded', async (reply) => {
      reply.writeHead(200, { 'content-type': 'application/json' });
      for (let at = 0; at < 5; at++) await new Promise((sent) => reply.write('\n   \n', sent));
      reply.end(CHAT);
    });
    const answer = await ask('padded');
    expect(String(answer.body)).toBe('\n   \n'.repeat(5) + CHAT);
    expect(answer.row).toMatchObject(METERED);
  });

  const frame = (between: string, before = '') =>
    before + EVENTS.map((data) => `data: ${data}${between}${between}`).join('');
  it.each<[string, string]>([
    ['ends lines with CR alone', frame('\r')],
    ['ends lines with CR and LF', frame('\r\n')],
    ['begins with a byte order mark', frame('\n', '\uFEFF')],
    ['comments', `: PROCESSING\n\n:\n\n${frame('\n')}`],
    ['names ids and events', EVENTS.map((data) => `id: 1\nevent: m\ndata:${data}\n\n`).join('')],
    ['goes on after its end', `${frame('\n')}data: {"after":1}\n\n: end\n\n`],
    ['tells of its usage after its end', `data: ${CHUNK}\n\ndata: [DONE]\n\ndata: ${USAGE}\n\n`],
    [
      'writes one event in many lines',
      `data: ${CHUNK}\n\n${JSON.stringify(JSON.parse(USAGE), null, 2).replace(/^/gm, 'data: ')}\n\n` +
        'data: [DONE]\n\n',
    ],
    ['leaves out the last blank line', frame('\n').trimEnd()],
  ])('whose stream %s', async (name, text) => {
    const bytes = Buffer.from(text);
    for (const step of [1, 5, bytes.length]) {
      scriptStream(`${name} ${step}`, bytes, {}, step);
      const answer = await ask(`${name} ${step}`, ASKED);
      expect(answer.isComplete).toBe(true);
      expect(answer.body.equals(bytes)).toBe(true);
      expect(answer.row).toMatchObject(METERED);
    }
  });

  it.each([
    ['gzip', zlib.gzipSync],
    ['br', zlib.brotliCompressSync],
    ['deflate', zlib.deflateSync],
    ['deflate', zlib.deflateRawSync],
  ] as const)('whose %s comes byte by byte', async (coding, encode) => {
    const name = `${coding} ${encode.name}`;
    const bytes = encode(Buffer.from(frame('\n')));
    scriptStream(name, bytes, { 'content-encoding': coding }, 1);
    const answer = await ask(name, ASKED);
    expect(answer.body.equals(bytes)).toBe(true);
    expect(answer.row).toMatchObject(METERED);
  });

  it('that answers before the body has come whole', async () => {
    gateway.upstream.script('early', (reply) => {
      reply.writeHead(413, { connection: 'close' }).end('{"error":{"message":"too large"}}');
    });
    const answer = await ask('early', { input: 'x'.repeat(3_000_000) });
    expect(answer.head).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer.row).toMatchObject({ cost: 0, has_error: true, status_code: 413 });
  });

  it('that sends more than it said is cut off', async () => {
    gateway.upstream.script('too much', (reply) => {
      reply.socket?.end(
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n${CHAT}`,
      );
    });
    const answer = await ask('too much');
    expect(readAnswer(answer.bytes).body.length).toBeLessThanOrEqual(5);
    expect(answer.row.estimated).not.toBeNull();
  });
});

describe('usage with parts that nobody can name', () => {
  const parts = JSON.stringify([{ modality: NEITHER, tokenCount: 3 }]);
  const unnamed = `"usage":{"completion_tokens_details":${parts},`;
  it('is read past in a whole answer', async () => {
    gateway.upstream.script('unnamed', (reply) => {
      reply.writeHead(200, { 'content-type': 'application/json' });
      reply.end(CHAT.replace('"usage":{', unnamed));
    });
    const { head, row } = await ask('unnamed');
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    expect(row).toMatchObject(METERED);
  });

  it('is read past in a stream', async () => {
    const events = EVENTS.map((data) => `data: ${data.replace('"usage":{', unnamed)}\n\n`);
    scriptStream('unnamed stream', Buffer.from(events.join('')));
    const { head, row } = await ask('unnamed stream', ASKED);
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    expect(row).toMatchObject(METERED);
  });
});
