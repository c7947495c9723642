import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { prepareRequest } from '../../../src/gateway/processUsage/index.js';
import { setMember } from '../../../src/gateway/processUsage/jsonMembers.js';
import { inForm } from '../../support/form.js';

const chat = (body: string) => prepareRequest('openai-chat', Buffer.from(body));

it('a name of a model of a megabyte is read as fast as it came', () => {
  const model = `${'/gpt-5'.repeat(200_000)}-chat`;
  expect(chat(JSON.stringify({ model })).requestedModel).toHaveLength(512);
});

describe('a chat stream is asked for its usage', () => {
  it.each([
    ['left out', '{"model":"m","stream":true}', '{"include_usage":true}'],
    ['null', '{"stream":true,"stream_options":null}', '{"include_usage":true}'],
    ['false', '{"stream_options":{"include_usage":false},"stream":true}', '{"include_usage":true}'],
    [
      'beside others',
      '{"stream":true,"stream_options": {"include_obfuscation":false} , "n":1}',
      '{"include_obfuscation":false,"include_usage":true}',
    ],
  ])('%s: put in, and the chunk hidden', (_name, body, options) => {
    const prepared = chat(body);
    expect(prepared.hideUsageChunk).toBe(true);
    const sent = JSON.parse(prepared.body.toString());
    expect(sent).toEqual({ ...JSON.parse(body), stream_options: JSON.parse(options) });
  });

  it.each([
    ['the client asked', '{"stream":true, "stream_options":{"include_usage":true}}'],
    ['no stream', '{"model":"m","stream":false}'],
    ['options that the provider must refuse', '{"stream":true,"stream_options":"yes"}'],
  ])('%s: the bytes stay as they are', (_name, body) => {
    const prepared = chat(body);
    expect(prepared.body.toString()).toBe(body);
    expect(prepared.hideUsageChunk).toBe(false);
  });

  it('leaves every other byte alone', () => {
    const body =
      ' { "stream" : true , "seed" : 12345678901234567890 , "x" : 1.0, "x":"\\u00e9é" } ';
    const prepared = chat(body);
    expect(prepared.body.toString()).toBe(
      body.replace(' } ', ' ,"stream_options":{"include_usage":true}} '),
    );
  });

  it('does so for chat alone', () => {
    for (const format of ['openai-responses', 'anthropic-messages'] as const) {
      const body = Buffer.from('{"stream":true}');
      expect(prepareRequest(format, body)).toMatchObject({ body, hideUsageChunk: false });
    }
  });
});

describe('setting a member in JSON bytes', () => {
  it('equals setting it in the parsed object, for any object', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('a', 'b', '__x')), fc.jsonValue()),
        fc.constantFrom('a', 'b', 'stream_options'),
        fc.constantFrom(undefined, 2, '\t'),
        (object, name, space) => {
          const bytes = Buffer.from(JSON.stringify(object, null, space));
          const json = JSON.parse(bytes.toString());
          const set = JSON.parse(setMember(bytes, name, { v: [1] }).toString());
          expect(set).toEqual({ ...json, [name]: { v: [1] } });
        },
      ),
      { numRuns: inForm(200, 500) },
    );
  });

  it('ends a string at the quote that is not escaped, however many backslashes are before it', () => {
    const text = fc.string({ unit: fc.constantFrom('"', '\\', 'a', '}', ','), maxLength: 12 });
    fc.assert(
      fc.property(text, text, (name, value) => {
        const object = { [name]: value, last: { [value]: name } };
        const set = setMember(Buffer.from(JSON.stringify(object)), 'last', 1);
        expect(set.toString()).toBe(JSON.stringify({ ...object, last: 1 }));
      }),
      { numRuns: inForm(300, 1_000) },
    );
  });

  it('sets the last of repeated members, which is the one that parsers keep', () => {
    const set = setMember(Buffer.from('{"a":1,"a":[{"a":2}],"b":{"a":3}}'), 'a', 0);
    expect(set.toString()).toBe('{"a":1,"a":0,"b":{"a":3}}');
  });
});

describe('facts of a request', () => {
  it('reads a chat request', () => {
    const prepared = chat(
      JSON.stringify({
        model: 'gpt-5',
        max_tokens: 10,
        max_completion_tokens: 20,
        tools: [{ type: 'function', function: { name: 'f' } }],
        messages: [
          { role: 'developer', content: 'Be brief.' },
          { role: 'user', content: 'First' },
          { role: 'assistant', content: 'Yes?' },
          { role: 'user', content: [{ type: 'text', text: 'Last' }, { type: 'image_url' }] },
        ],
      }),
    );
    expect(prepared).toMatchObject({
      requestedModel: 'gpt-5',
      streamed: false,
      maxTokens: 20,
      hasTools: true,
      userPromptPrefix: 'Last',
      systemPromptPrefix: 'Be brief.',
      systemPromptLength: 9,
    });
  });

  it('reads a responses request', () => {
    const prepared = prepareRequest(
      'openai-responses',
      Buffer.from('{"model":"o3","input":"Hi","instructions":"Sys","max_output_tokens":7}'),
    );
    expect(prepared).toMatchObject({
      maxTokens: 7,
      hasTools: false,
      userPromptPrefix: 'Hi',
      systemPromptPrefix: 'Sys',
    });
  });

  it('reads a messages request, and cuts the prefixes at whole characters', () => {
    const prepared = prepareRequest(
      'anthropic-messages',
      Buffer.from(
        JSON.stringify({
          model: 'claude',
          max_tokens: 1_024,
          system: [{ type: 'text', text: `${'s'.repeat(99)}😀` }],
          messages: [{ role: 'user', content: [{ type: 'text', text: 'Hello' }] }],
        }),
      ),
    );
    expect(prepared).toMatchObject({ maxTokens: 1_024, userPromptPrefix: 'Hello' });
    expect(prepared.systemPromptPrefix).toBe(`${'s'.repeat(99)}\uFFFD`);
    expect(prepared.systemPromptLength).toBe(101);
  });

  it('estimates the prompt from its text, not from encoded files', () => {
    const image = `data:image/png;base64,${'A'.repeat(100_000)}`;
    const messages = [
      { role: 'user', content: 'x'.repeat(4_000) },
      { role: 'user', content: [{ type: 'image_url', image_url: { url: image } }] },
    ];
    const { inputTokensEstimate } = chat(JSON.stringify({ messages }));
    expect(inputTokensEstimate).toBeGreaterThanOrEqual(2_000);
    expect(inputTokensEstimate).toBeLessThan(2_100);
  });

  it.each(['', '[1]', 'null', '{"a":', '"x"', 'secret-prompt'])('refuses %j', (body) => {
    expect(() => chat(body)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    expect(() => chat(body)).toThrow(/^the body must be a JSON object$/);
  });

  it('reads any JSON object without a throw', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('openai-chat', 'openai-responses', 'anthropic-messages'),
        fc.dictionary(
          fc.constantFrom('model', 'messages', 'input', 'system', 'stream', 'tools', 'max_tokens'),
          fc.jsonValue(),
        ),
        (format, body) => {
          const prepared = prepareRequest(format, Buffer.from(JSON.stringify(body)));
          expect(prepared.inputTokensEstimate).toBeGreaterThan(0);
        },
      ),
    );
  });
});
