import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createStreamGate,
  createUsageReader,
  type WireFormat,
} from '../../../src/gateway/processUsage/index.js';
import { inForm } from '../../support/form.js';
import { chunksOf, readBytes } from './readBytes.js';

/** Framings, answers beyond any size, and input that no provider would send. */
const FORMATS: readonly WireFormat[] = ['openai-chat', 'openai-responses', 'anthropic-messages'];

describe('framings', () => {
  const usage = '"usage":{"prompt_tokens":5,"completion_tokens":6}';
  const expected = { inputTokens: 5, outputTokens: 6, complete: true, malformedChunks: 0 };

  it.each([
    ['a byte order mark', `\uFEFFdata: {"choices":[],${usage}}\n\ndata: [DONE]\n\n`],
    ['data on several lines', `data: {"choices":[],\ndata: ${usage}}\n\ndata:[DONE]\n\n`],
    ['comments', `: OPENROUTER PROCESSING\n\n:\n\ndata: {"choices":[],${usage}}\n\ndata: [DONE]`],
    ['other fields', `id: 7\nretry: 10\ndata: {"choices":[],${usage}}\n\ndata: [DONE]\n\n`],
    ['mixed line ends', `data: {"choices":[],${usage}}\r\n\ndata: [DONE]\r\r`],
    ['no last blank line', `data: [DONE]\n\ndata: {"choices":[],${usage}}`],
    ['a whole body instead', `{"choices":[],${usage}}`],
    ['no blank lines', `data: {"choices":[]}\ndata: {"choices":[],${usage}}\ndata: [DONE]\n`],
    ['no blank lines but CRLF', `data: {"choices":[],${usage}}\r\ndata: [DONE]\r\n`],
  ])('%s', (_name, text) => {
    for (const size of [1, 2, 3, 7, 1_000]) {
      expect(readBytes('openai-chat', true, Buffer.from(text), size)).toMatchObject(expected);
    }
  });

  it('a stream where a body was expected', () => {
    const text = `data: {"choices":[],${usage}}\n\ndata: [DONE]\n\n`;
    expect(readBytes('openai-chat', false, Buffer.from(text), 5)).toMatchObject(expected);
  });

  it('lines of JSON where a body was expected', () => {
    const text = `{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n{${usage}}\n`;
    expect(readBytes('openai-chat', false, Buffer.from(text), 5)).toMatchObject(expected);
  });

  it.each(FORMATS)('%s: an event that is named an error is one', (format) => {
    const text = 'event: error\ndata: {"message":"overloaded","code":529}\n\n';
    expect(readBytes(format, true, Buffer.from(text), 3).error).not.toBeNull();
  });

  it('counts malformed events and reads on', () => {
    const text = `data: {"choices":[{]}\n\ndata: oops\n\ndata: {"choices":[],${usage}}\n\n`;
    expect(readBytes('openai-chat', true, Buffer.from(text), 9)).toMatchObject({
      inputTokens: 5,
      malformedChunks: 2,
    });
  });

  it('characters cut between bytes', () => {
    const text = `data: ${JSON.stringify({ choices: [{ delta: { content: 'é漢😀' } }] })}\n\n`;
    const reading = readBytes('openai-chat', true, Buffer.from(text), 1);
    expect(reading.outputBytes).toBe(Buffer.byteLength('é漢😀'));
  });
});

describe('large answers', () => {
  it.each(FORMATS)('%s: usage of an event beyond what is kept whole', (format) => {
    const filler = 'z\\"usage\\":{'.repeat(300_000);
    const usage = '{"input_tokens":8,"output_tokens":9,"cost":0.25}';
    const openAi = `{"id":"i","model":"m","output":"${filler}","usage":${usage}}`;
    const text = {
      'openai-chat': `{"id":"i","model":"m","choices":[],"output":"${filler}","usage":${usage}}`,
      'openai-responses': `{"type":"response.completed","response":${openAi}}`,
      'anthropic-messages':
        `{"type":"message_delta","delta":{"stop_reason":"end_turn","x":"${filler}"},` +
        `"usage":${usage}}`,
    }[format];
    const bytes = Buffer.from(`data: ${text}\n\n`);
    const reading = readBytes(format, true, bytes, 16_384);
    expect(reading).toMatchObject({ inputTokens: 8, outputTokens: 9, malformedChunks: 0 });
    const gate = createStreamGate(format, { hideUsageChunk: false });
    const sent = chunksOf(bytes, 16_384).flatMap((piece) => gate.push(piece));
    const held = gate.held();
    expect(Buffer.concat([...sent, held]).equals(bytes)).toBe(true);
    expect(gate.sawTerminal).toBe(format === 'openai-responses');
    if (gate.sawTerminal) expect(Buffer.from(held).toString()).toContain('"usage"');
  });

  it('reads a whole body beyond what is kept', () => {
    const body = { id: 'i', model: 'm', big: 'b'.repeat(3_000_000) };
    const usage = { prompt_tokens: 8, completion_tokens: 9 };
    const text = JSON.stringify({ ...body, usage });
    expect(readBytes('openai-chat', false, Buffer.from(text), 65_536)).toMatchObject({
      inputTokens: 8,
      outputTokens: 9,
      model: 'm',
      usage: 'final',
    });
  });

  it('does not take a member of that name in the request for the usage', () => {
    const tool = { parameters: { properties: { usage: { type: 'string' } } } };
    const text = JSON.stringify({ model: 'm', big: 'b'.repeat(2_000_000), tools: [tool] });
    expect(readBytes('openai-responses', false, Buffer.from(text), 65_536)).toMatchObject({
      inputTokens: null,
      usage: 'missing',
    });
  });
});

describe('hostile input', () => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.json().map((text) => Buffer.from(`data: ${text}\n\n`)),
    fc
      .constantFrom('\r', '\n', '\r\n', 'data:', 'event: error\n', '{"usage":', '\uFEFF')
      .map(Buffer.from),
    hostilePayload().map((text) => Buffer.from(`data: ${text}\r\n\r\n`)),
  );

  it('never throws, and passes every byte', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...FORMATS),
        fc.boolean(),
        fc.array(noise, { maxLength: 12 }),
        (format, streamed, pieces) => {
          const reader = createUsageReader(format, { streamed });
          const gate = createStreamGate(format, { hideUsageChunk: false });
          const out: Uint8Array[] = [];
          for (const piece of pieces) {
            reader.push(piece);
            out.push(...gate.push(piece));
          }
          const reading = reader.end();
          expect(Buffer.concat([...out, gate.held()]).equals(Buffer.concat(pieces))).toBe(true);
          expect(reading.cacheHitTokens + reading.cacheWriteTokens).toBeLessThanOrEqual(
            reading.inputTokens ?? 0,
          );
          expect(reading.reasoningTokens ?? 0).toBeLessThanOrEqual(reading.outputTokens ?? 1e15);
          expect(reader.end()).toEqual(reading);
        },
      ),
      { numRuns: inForm(150, 400) },
    );
  });
});

/** The right members with wrong values. */
function hostilePayload(): fc.Arbitrary<string> {
  const value = fc.oneof(
    fc.constantFrom<unknown>(null, -1, 1e300, 0.5, '12', [], {}, [null], true, 7, 1_000),
    fc.jsonValue(),
  );
  const usage = fc.record(
    {
      prompt_tokens: value,
      completion_tokens: value,
      input_tokens: value,
      output_tokens: value,
      cache_read_input_tokens: value,
      cache_creation_input_tokens: value,
      cache_creation: fc.record({ ephemeral_1h_input_tokens: value }),
      prompt_tokens_details: fc.record({ cached_tokens: value, audio_tokens: value }),
      output_tokens_details: fc.record({ reasoning_tokens: value, thinking_tokens: value }),
      iterations: fc.array(fc.record({ type: fc.constantFrom('compaction', 'advisor_message') })),
      total_tokens: value,
      cost: value,
    },
    { requiredKeys: [] },
  );
  const body = fc.record(
    {
      type: fc.constantFrom('message_start', 'message_delta', 'response.completed', 'error', 'x'),
      usage: fc.oneof(usage, value),
      message: fc.oneof(fc.record({ usage }), value),
      response: fc.oneof(fc.record({ usage, output: value, error: value }), value),
      delta: value,
      choices: fc.oneof(fc.array(fc.record({ delta: value, message: value })), value),
      error: value,
      id: value,
      model: value,
    },
    { requiredKeys: [] },
  );
  return body.map((each) => JSON.stringify(each));
}
