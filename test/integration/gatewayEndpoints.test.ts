import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSocket, postBytes } from '../support/rawHttp.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

const headers = () => ({ authorization: `Bearer ${user.key}` });

/** What a provider answers, as it is, to one path. */
function answer(path: string, body: object | Buffer, type = 'application/json'): void {
  gateway.upstream.scriptPath(new RegExp(`^POST ${path}$`), (response) => {
    response.writeHead(200, { 'content-type': type });
    response.end(Buffer.isBuffer(body) ? body : JSON.stringify(body));
  });
}

async function post(path: string, body: object | FormData) {
  const response = await fetch(gateway.url + path, {
    method: 'POST',
    headers: {
      ...headers(),
      ...(body instanceof FormData ? {} : { 'content-type': 'application/json' }),
    },
    body: body instanceof FormData ? body : JSON.stringify(body),
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  const id = response.headers.get('x-microdollar-usage-id');
  return { status: response.status, bytes, row: id === null ? null : await gateway.usage(id) };
}

describe('metered', () => {
  it('embeddings: priced by their input', async () => {
    const body = {
      object: 'list',
      data: [{ object: 'embedding', index: 0, embedding: [0.1] }],
      model: 'text-embedding-3-small',
      usage: { prompt_tokens: 50_000, total_tokens: 50_000 },
    };
    answer('/v1/embeddings', body);
    const sent = await post('/v1/embeddings', { model: 'text-embedding-3-small', input: 'x' });
    expect(JSON.parse(String(sent.bytes))).toEqual(body);
    expect(sent.row).toMatchObject({
      api_kind: 'openai_embeddings',
      input_tokens: 50_000,
      output_tokens: 0,
      cost: 1_000,
      estimated: null,
      unpriced: null,
      max_tokens: null,
    });
  });

  it('completions, whole and as a stream that was not asked for its usage', async () => {
    const usage = { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 };
    gateway.upstream.scriptPath(/^POST \/v1\/completions$/, (response, request) => {
      const body = JSON.parse(String(request.body));
      if (body.stream !== true) {
        response.end(JSON.stringify({ model: body.model, choices: [{ text: 'ab' }], usage }));
        return;
      }
      const asked = body.stream_options?.include_usage === true;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`data: {"choices":[{"text":"ab"}]${asked ? ',"usage":null' : ''}}\n\n`);
      if (asked) response.write(`data: {"choices":[],"usage":${JSON.stringify(usage)}}\n\n`);
      response.end('data: [DONE]\n\n');
    });
    const model = 'gpt-3.5-turbo-instruct';
    const whole = await post('/v1/completions', { model, prompt: 'Say this' });
    expect(whole.row).toMatchObject({ api_kind: 'openai_completions', output_tokens: 2 });
    const streamed = await post('/v1/completions', { model, prompt: 'Say this', stream: true });
    expect(String(streamed.bytes)).toBe('data: {"choices":[{"text":"ab"}]}\n\ndata: [DONE]\n\n');
    expect(streamed.row).toMatchObject({ input_tokens: 5, output_tokens: 2, estimated: null });
  });

  it('compaction of a response', async () => {
    answer('/v1/responses/compact', {
      id: 'resp_c1',
      object: 'response.compaction',
      model: 'gpt-5',
      output: [{ type: 'compaction', encrypted_content: 'AAAA' }],
      usage: { input_tokens: 100, output_tokens: 20, total_tokens: 120 },
    });
    const { row } = await post('/v1/responses/compact', { model: 'gpt-5', input: [] });
    expect(row).toMatchObject({
      api_kind: 'openai_compact',
      input_tokens: 100,
      output_tokens: 20,
      estimated: null,
    });
  });

  it.each(['/v1/images/generations', '/v1/images/edits'])('%s', async (path) => {
    answer(path, {
      created: 1,
      data: [{ b64_json: 'iVBORw0KGgo=' }],
      usage: { input_tokens: 10, output_tokens: 1_000, total_tokens: 1_010 },
    });
    const form = new FormData();
    form.set('model', 'gpt-image-1');
    form.set('prompt', 'a cat');
    form.set('image', new Blob([Buffer.from('image')]), 'a.png');
    const body = path.endsWith('edits') ? form : { model: 'gpt-image-1', prompt: 'a cat' };
    const { row } = await post(path, body);
    expect(row).toMatchObject({
      requested_model: 'gpt-image-1',
      input_tokens: 10,
      output_tokens: 1_000,
      estimated: null,
    });
  });

  it.each(['/v1/audio/transcriptions', '/v1/audio/translations'])(
    '%s: a form, to the byte',
    async (path) => {
      answer(path, {
        text: 'hello',
        usage: { type: 'tokens', input_tokens: 14, output_tokens: 4, total_tokens: 18 },
      });
      const form = new FormData();
      form.set('model', 'gpt-4o-transcribe');
      form.set('file', new Blob([Buffer.from([0, 255, 13, 10, 0])]), 'a.mp3');
      const { row } = await post(path, form);
      expect(row).toMatchObject({
        requested_model: 'gpt-4o-transcribe',
        input_tokens: 14,
        output_tokens: 4,
      });
      const seen = gateway.upstream.requests.at(-1);
      expect(seen?.headers['content-type']).toMatch(/^multipart\/form-data; boundary=/);
      expect(seen?.body.includes(Buffer.from([0, 255, 13, 10, 0]))).toBe(true);
    },
  );

  it('speech passes as bytes; that its cost is not known is said', async () => {
    const sound = Buffer.from('ID3\0\x01\x02 no text at all');
    answer('/v1/audio/speech', sound, 'audio/mpeg');
    const { bytes, row } = await post('/v1/audio/speech', { model: 'tts-1-hd', input: 'Hello' });
    expect(bytes.equals(sound)).toBe(true);
    expect(row).toMatchObject({ api_kind: 'openai_speech', estimated: 'missing_usage' });
  });

  it('rerank', async () => {
    answer('/v1/rerank', { results: [], usage: { total_tokens: 99 } });
    const { row } = await post('/v1/rerank', { model: 'rerank-x', query: 'q', documents: ['d'] });
    expect(row).toMatchObject({ api_kind: 'rerank', input_tokens: 99, unpriced: true });
  });

  it('under the prefix of OpenRouter, and with Anthropic’s ?beta=true', async () => {
    const chat = await post('/api/v1/chat/completions', { model: 'gpt-4.1-nano' });
    expect(chat.row).toMatchObject({ api_kind: 'openai_chat', status_code: 200 });
    expect(gateway.upstream.requests.at(-1)?.path).toBe('/v1/chat/completions');
    const messages = await post('/v1/messages?beta=true', { model: 'claude-sonnet-4-5' });
    expect(messages.row).toMatchObject({ api_kind: 'anthropic_messages', status_code: 200 });
    expect(gateway.upstream.requests.at(-1)?.path).toBe('/v1/messages?beta=true');
  });

  it('the end of a stream of images waits for its row, partial images do not', async () => {
    const opened = new Promise<ServerResponse>((resolve) => {
      gateway.upstream.scriptPath(/^POST \/v1\/images\/generations$/, (response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        resolve(response);
      });
    });
    const socket = await openSocket(gateway.url);
    let seen = '';
    socket.on('data', (chunk) => {
      seen += String(chunk);
    });
    const body = '{"model":"gpt-image-1","prompt":"a","stream":true}';
    const keyed = { ...headers(), connection: 'close' };
    socket.write(postBytes('/v1/images/generations', keyed, body));
    const provider = await opened;
    provider.write('data: {"type":"image_generation.partial_image"}\n\n');
    while (!seen.includes('partial_image')) await once(socket, 'data');
    const usage = '"usage":{"input_tokens":7,"output_tokens":70,"total_tokens":77}';
    provider.end(`data: {"type":"image_generation.completed",${usage}}\n\n`);
    await once(socket, 'close');
    expect(seen).toContain('image_generation.completed');
    const id = /x-microdollar-usage-id: (\S+)/.exec(seen)?.[1] ?? '';
    expect(await gateway.usage(id)).toMatchObject({ input_tokens: 7, output_tokens: 70 });
  });
});

describe('free, passed on', () => {
  it.each([
    ['/v1/messages/count_tokens?beta=true', { input_tokens: 9 }],
    ['/v1/responses/input_tokens', { object: 'response.input_tokens', input_tokens: 11 }],
    ['/v1/moderations', { id: 'modr-1', results: [] }],
  ])('POST %s', async (path, body) => {
    answer(path.split('?')[0] ?? '', body);
    const rows = await gateway.rows('select id from microdollar_usage');
    const sent = await post(path, { model: 'any' });
    expect([sent.status, JSON.parse(String(sent.bytes)), sent.row]).toEqual([200, body, null]);
    expect(await gateway.rows('select id from microdollar_usage')).toHaveLength(rows.length);
  });

  it('but not all at once: 429 beyond a limit, which what costs does not share', async () => {
    const limited = await startTestGateway({ gateway: { limits: { freePerUser: 1 } } });
    try {
      const { key } = await limited.newUser();
      const opened: ServerResponse[] = [];
      limited.upstream.scriptPath(/^POST \/v1\/moderations$/, (response) => {
        opened.push(response);
      });
      const send = (path: string) =>
        fetch(limited.url + path, {
          method: 'POST',
          headers: { authorization: `Bearer ${key}` },
          body: '{"model":"gpt-4.1-nano"}',
        });
      const held = send('/v1/moderations');
      while (opened.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const refused = await send('/v1/moderations');
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
      expect((await send('/v1/chat/completions')).status).toBe(200);
      opened[0]?.end('{}');
      expect((await held).status).toBe(200);
    } finally {
      await limited.stop();
    }
  });

  it('GET of one model', async () => {
    gateway.upstream.scriptPath(/^GET \/v1\/models\/.+/, (response, { path }) => {
      response.end(JSON.stringify({ path }));
    });
    const response = await fetch(`${gateway.url}/v1/models/openai/gpt-4.1:free`, {
      headers: headers(),
    });
    expect(await response.json()).toEqual({ path: '/v1/models/openai/gpt-4.1%3Afree' });
  });
});

describe('refused by name', () => {
  it.each(['/v1/batches', '/v1/files', '/v1/realtime/sessions', '/v1/conversations'])(
    'POST %s',
    async (path) => {
      const calls = gateway.upstream.calls;
      const { status, bytes } = await post(path, {});
      expect(status).toBe(404);
      const { error } = JSON.parse(String(bytes));
      expect(error).toMatchObject({ code: 'not_supported', type: 'invalid_request_error' });
      expect(error.message).toContain(path);
      expect(gateway.upstream.calls).toBe(calls);
    },
  );

  it('message batches, in Anthropic’s words', async () => {
    const { bytes } = await post('/v1/messages/batches', {});
    expect(JSON.parse(String(bytes))).toMatchObject({
      type: 'error',
      error: { type: 'not_found_error', message: expect.stringContaining('Message Batches') },
    });
  });
});
