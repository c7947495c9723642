import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createPricer } from '../../../src/gateway/prices/index.js';
import {
  createSideGate,
  createSideReader,
  estimateUsage,
  prepareSideRequest,
  type SideFormat,
} from '../../../src/gateway/processUsage/index.js';
import { NOW } from './meterCall.js';

function read(side: SideFormat, body: unknown, streamed = false) {
  const reader = createSideReader(side, { streamed });
  reader.push(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)));
  return reader.end();
}

describe('usage of the side endpoints', () => {
  it.each<[SideFormat, object, object]>([
    [
      'embeddings',
      {
        object: 'list',
        model: 'text-embedding-3-small',
        usage: { prompt_tokens: 8, total_tokens: 8 },
      },
      { inputTokens: 8, outputTokens: 0, usage: 'final', model: 'text-embedding-3-small' },
    ],
    ['embeddings', { usage: { total_tokens: 8 } }, { inputTokens: 8, outputTokens: 0 }],
    [
      'images',
      {
        data: [],
        usage: {
          input_tokens: 60,
          output_tokens: 272,
          input_tokens_details: { text_tokens: 10, image_tokens: 50 },
        },
      },
      { inputTokens: 60, inputImageTokens: 50, outputTokens: 272, outputImageTokens: 272 },
    ],
    [
      'audio',
      {
        text: 'hello',
        usage: {
          type: 'tokens',
          input_tokens: 14,
          output_tokens: 4,
          input_token_details: { text_tokens: 0, audio_tokens: 14 },
        },
      },
      { inputTokens: 14, inputAudioTokens: 14, outputTokens: 4, usage: 'final' },
    ],
    [
      'audio',
      { text: 'twelve bytes', usage: { type: 'duration', seconds: 2.2 } },
      { usage: 'final', inputTokens: 0, outputTokens: 0, charges: { audio_seconds: 3 } },
    ],
    [
      'audio',
      { text: 'hello', duration: 9.5, usage: { type: 'duration' } },
      { usage: 'final', charges: { audio_seconds: 10 } },
    ],
    [
      'audio',
      { text: 'hello', usage: { prompt_audio_seconds: 7, prompt_tokens: 4 } },
      { usage: 'final', inputTokens: 4, charges: { audio_seconds: 7 } },
    ],
    // Tokens of speech are in the total alone (Mistral).
    [
      'audio',
      {
        text: 'hello',
        usage: {
          prompt_audio_seconds: 7,
          prompt_tokens: 0,
          completion_tokens: 5,
          total_tokens: 92,
        },
      },
      { usage: 'final', inputTokens: 0, outputTokens: 5, charges: { audio_seconds: 7 } },
    ],
    [
      'audio',
      { text: 'hello', usage: { prompt_audio_seconds: 7, total_tokens: 92 } },
      { usage: 'final', inputTokens: 0, outputTokens: 0, charges: { audio_seconds: 7 } },
    ],
    [
      'audio',
      { text: 'hello', usage: { type: 'duration', seconds: -1 } },
      { usage: 'missing', inputTokens: null, outputBytes: 5 },
    ],
    ['rerank', { results: [], usage: { total_tokens: 99 } }, { inputTokens: 99, outputTokens: 0 }],
    [
      'rerank',
      { meta: { tokens: { input_tokens: 12, output_tokens: 0 } } },
      { inputTokens: 12, usage: 'final' },
    ],
    [
      'rerank',
      { meta: { billed_units: { search_units: 1 } } },
      { usage: 'final', charges: { rerank_searches: 1 } },
    ],
    [
      'completions',
      {
        model: 'gpt-3.5-turbo-instruct',
        choices: [{ text: 'abc', finish_reason: 'stop' }],
        usage: { prompt_tokens: 5, completion_tokens: 2 },
      },
      { inputTokens: 5, outputTokens: 2, finishReason: 'stop', outputBytes: 3 },
    ],
    ['embeddings', { usage: { prompt_tokens: 8, cost: 0.00002 } }, { costUsd: '0.00002' }],
    ['embeddings', { usage: { totalTokens: 8, estimated_cost: '2e-5' } }, { costUsd: '2e-5' }],
    ['rerank', { cost: { total_cost: 0.002 } }, { costUsd: '0.002' }],
    ['embeddings', { usage: { promptTokens: 8, cached_tokens: 3 } }, { cacheHitTokens: 3 }],
    ['images', { error: { type: 'server_error' } }, { error: 'server_error', usage: 'missing' }],
    // https://github.com/BerriAI/litellm/issues/33681
    [
      'embeddings',
      { data: [{ embedding: [0.5] }], usage: { prompt_tokens: 0, total_tokens: 0, cost: 0 } },
      { usage: 'missing', inputTokens: null, costUsd: null, error: null },
    ],
    [
      'images',
      { data: [{ b64_json: 'iVBO' }], usage: { input_tokens: 0, output_tokens: 0 } },
      { usage: 'missing', error: null },
    ],
    [
      'embeddings',
      { data: [], usage: { total_tokens: 0 }, code: 401, message: 'x' },
      { usage: 'missing', error: '401' },
    ],
    ['audio', { text: 'Hi.', duration: '8.47' }, { usage: 'final', charges: { audio_seconds: 9 } }],
    ['audio', { text: 'Hi.', duration: -8 }, { usage: 'missing', charges: {} }],
    [
      'rerank',
      { results: [], usage: { total_tokens: 0, cost: 0 } },
      { usage: 'final', inputTokens: 0, costUsd: '0' },
    ],
    [
      'embeddings',
      { data: [{}], usage: { prompt_tokens: 0, total_tokens: 12 } },
      { usage: 'final', inputTokens: 12, outputTokens: 0 },
    ],
    [
      'images',
      { data: [{}], usage: { total_tokens: 90, output_tokens: 80 } },
      { usage: 'final', inputTokens: 10, outputTokens: 80 },
    ],
    [
      'images',
      { data: [{}], usage: { input_tokens: 0, output_tokens: 80 } },
      { usage: 'final', inputTokens: 0, outputTokens: 80, outputImageTokens: 80 },
    ],
    [
      'embeddings',
      { base_resp: { status_code: 1008, status_msg: 'no' }, usage: { total_tokens: 0 } },
      { usage: 'missing', error: '1008' },
    ],
  ])('%s %j', (side, body, expected) => {
    expect(read(side, body)).toMatchObject(expected);
  });

  it('of an answer that is too long to keep is found at its end', () => {
    const body = { data: [{ embedding: 'A'.repeat(3_000_000) }], usage: { prompt_tokens: 8 } };
    expect(read('embeddings', body)).toMatchObject({ inputTokens: 8, outputTokens: 0 });
  });

  it('of a stream is in its last event', () => {
    const partial =
      'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image"}\n\n';
    const last =
      'event: image_generation.completed\ndata: {"type":"image_generation.completed",' +
      '"usage":{"input_tokens":10,"output_tokens":200,"total_tokens":210}}\n\n';
    expect(read('images', partial + last, true)).toMatchObject({
      inputTokens: 10,
      outputTokens: 200,
      usage: 'final',
      complete: true,
    });
  });

  it('is not free by a cost of 0 that comes after it', () => {
    const events = (cost: number) =>
      'data: {"usage":{"input_tokens":10,"output_tokens":200}}\n\n' +
      `data: {"type":"image_generation.completed","cost":${cost}}\n\n`;
    expect(read('images', events(0), true)).toMatchObject({ usage: 'final', costUsd: null });
    expect(read('images', events(0.5), true)).toMatchObject({ usage: 'final', costUsd: '0.5' });
    const zeros = 'data: {"usage":{"input_tokens":0,"output_tokens":0,"cost":0}}\n\n';
    const after = read('images', events(0) + zeros, true);
    expect(after).toMatchObject({ inputTokens: 10, outputTokens: 200, costUsd: null });
    const seconds = 'data: {"text":"Hi.","usage":{"type":"duration","seconds":30}}\n\n';
    const speech = read('audio', `${seconds}data: {"type":"x","cost":0}\n\n`, true);
    expect(speech).toMatchObject({ charges: { audio_seconds: 30 }, costUsd: null });
  });

  it('never throws, whatever comes in whichever pieces', () => {
    const sides: SideFormat[] = ['embeddings', 'images', 'audio', 'rerank', 'completions'];
    fc.assert(
      fc.property(
        fc.constantFrom(...sides),
        fc.oneof(
          fc.json(),
          fc.uint8Array().map(String),
          fc.object().map((usage) => JSON.stringify({ usage })),
        ),
        fc.boolean(),
        fc.nat(20),
        (side, text, streamed, cut) => {
          const reader = createSideReader(side, { streamed });
          const bytes = Buffer.from(streamed ? `data: ${text}\n\n` : text);
          reader.push(bytes.subarray(0, cut));
          reader.push(bytes.subarray(cut));
          const { inputTokens, outputTokens } = reader.end();
          expect(inputTokens ?? 0).toBeGreaterThanOrEqual(0);
          expect(outputTokens ?? 0).toBeGreaterThanOrEqual(0);
        },
      ),
    );
  });
});

describe('requests to the side endpoints', () => {
  const prepare = (side: SideFormat, body: object) =>
    prepareSideRequest(side, Buffer.from(JSON.stringify(body)), 'application/json');

  it('are estimated by their texts, and by the length of token lists', async () => {
    expect(await prepare('embeddings', { model: 'm', input: 'x'.repeat(40) })).toMatchObject({
      requestedModel: 'm',
      inputTokensEstimate: 10,
      streamed: false,
      hideUsageChunk: false,
    });
    expect(await prepare('embeddings', { input: [[1, 2, 3], [4]] })).toMatchObject({
      inputTokensEstimate: 4,
    });
    expect(
      await prepare('rerank', { query: 'x'.repeat(4), documents: [{ text: 'y'.repeat(36) }] }),
    ).toMatchObject({ inputTokensEstimate: 10 });
    const image = `data:image/png;base64,${'A'.repeat(40_000)}`;
    const parts = [image, { type: 'input_audio', input_audio: { data: 'A'.repeat(40_000) } }];
    const { inputTokensEstimate } = await prepare('embeddings', { input: [parts, 'xxxx'] });
    expect(inputTokensEstimate).toBeLessThan(2_010);
    const documents = [{ text: 'y'.repeat(30), url: 'https://a.example/b', data: 'z'.repeat(400) }];
    const ranked = await prepare('rerank', { query: 'x', documents });
    expect(ranked.inputTokensEstimate).toBe(113);
  });

  // https://github.com/BerriAI/litellm/issues/24339
  it('of vectors cost their prompt, where the answer tells no usage', async () => {
    const request = await prepare('embeddings', {
      model: 'gemini-embedding-2',
      input: 'x'.repeat(40),
    });
    expect(request).toMatchObject({ maxTokens: null, choices: 0 });
    const reader = createSideReader('embeddings', { streamed: false });
    reader.push(Buffer.from('{"data":[{"embedding":[0.5]}]}'));
    const { reading, estimated } = estimateUsage(request, reader.end(), { silentMs: 900 });
    expect([reading.inputTokens, reading.outputTokens, estimated]).toEqual([
      10,
      0,
      'missing_usage',
    ]);
    const asked = { format: 'openai-chat', requestedModel: 'gemini-embedding-2' } as const;
    const host = 'generativelanguage.googleapis.com';
    const price = createPricer().price(reading, { ...asked, upstreamHost: host, at: NOW });
    expect(price).toMatchObject({ costMicrodollars: 2 });
  });

  it('of images are estimated to have made some', async () => {
    const form = new FormData();
    form.set('model', 'gpt-image-1.5');
    const sent = new Response(form);
    const body = Buffer.from(await sent.arrayBuffer());
    const type = sent.headers.get('content-type') ?? '';
    for (const request of [
      await prepare('images', { model: 'gpt-image-1.5', prompt: 'x' }),
      await prepareSideRequest('images', body, type),
    ]) {
      const nothing = createSideReader('images', { streamed: false }).end();
      const { reading } = estimateUsage(request, nothing, { silentMs: 10_000 });
      expect(reading).toMatchObject({ outputTokens: 1_000, outputImageTokens: 1_000 });
    }
  });

  it('go out as they came; only a streamed completion is asked for its usage', async () => {
    const images = Buffer.from('{"prompt":"a", "stream":true}');
    expect((await prepareSideRequest('images', images, '')).body).toBe(images);
    const completion = await prepare('completions', { prompt: 'Say this', stream: true });
    expect(String(completion.body)).toContain('include_usage');
    expect(completion).toMatchObject({ hideUsageChunk: true, userPromptPrefix: 'Say this' });
  });

  it('are estimated also where they have very many members', async () => {
    const texts = Object.fromEntries(Array.from({ length: 150_000 }, (_, at) => [`t${at}`, 'xx']));
    const { inputTokensEstimate } = await prepare('rerank', { query: 'q', documents: [texts] });
    expect(inputTokensEstimate).toBeGreaterThan(50_000);
  });

  it('are forms, too', async () => {
    const form = new FormData();
    form.set('model', 'whisper-1');
    form.set('stream', 'true');
    form.set('prompt', 'Names that may be said: Ada.');
    form.set('file', new Blob([Buffer.alloc(160_000)]), 'a.mp3');
    const response = new Response(form);
    const body = Buffer.from(await response.arrayBuffer());
    const type = response.headers.get('content-type') ?? '';
    const prepared = await prepareSideRequest('audio', body, type);
    expect(prepared).toMatchObject({ requestedModel: 'whisper-1', streamed: true });
    expect(prepared.inputTokensEstimate).toBe(100);
    expect(prepared.body).toBe(body);
    await expect(prepareSideRequest('audio', Buffer.from('x'), type)).rejects.toMatchObject({
      code: 'invalid_request',
    });
  });
});

describe('the end of a stream of images', () => {
  it('waits, to the byte, wherever it is cut', () => {
    const partial =
      'event: image_edit.partial_image\r\ndata: {"type":"image_edit.partial_image"}\r\n\r\n';
    const last = 'event: image_edit.completed\r\ndata: {"type":"image_edit.completed"}\r\n\r\n';
    const bytes = Buffer.from(partial + partial + last);
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 5 }), (cuts) => {
        const gate = createSideGate();
        const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const sent = at.slice(1).flatMap((end, i) => gate.push(bytes.subarray(at[i], end)));
        expect(Buffer.concat(sent).toString()).toBe(partial + partial);
        expect(Buffer.from(gate.held()).toString()).toBe(last);
        expect(gate.sawTerminal).toBe(true);
      }),
    );
  });
});

describe('an error by another name', () => {
  it.each<[SideFormat, object]>([
    ['images', { code: 10_000, message: 'Success', data: [{ url: 'x' }] }],
    ['images', { code: 10_000, msg: 'done', images: [{ url: 'x' }] }],
    ['embeddings', { code: 10_000, message: 'Success' }],
    ['rerank', { code: 20_000, message: 'fine', results: [{ index: 0 }] }],
    ['audio', { code: 3_000, message: 'fine', output: { url: 'x' } }],
    ['images', { errors: [{ code: 1 }], data: [{ url: 'x' }] }],
  ])('is none of what holds something, or says success: %s', (side, body) => {
    expect(read(side, body).error).toBeNull();
  });

  it.each<[SideFormat, object, string]>([
    ['images', { code: 10_001, message: 'x', data: [] }, '10001'],
    ['images', { code: 10_001, message: 'x', data: { images: [], url: null } }, '10001'],
    ['audio', { base_resp: { status_code: 1_004 }, data: { audio: '', status: 2 } }, '1004'],
    ['embeddings', { code: 401, success: false, data: { detail: 'x' }, message: 'x' }, '401'],
    ['embeddings', { code: 401, message: 'unsuccessful', data: null }, '401'],
  ])('is one of what holds nothing: %s', (side, body, error) => {
    expect(read(side, body).error).toBe(error);
  });
});
