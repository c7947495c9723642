import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { withoutNullUsage } from '../../../src/gateway/processUsage/addedUsage.js';
import { createStreamGate } from '../../../src/gateway/processUsage/index.js';

const strip = (text: string) => Buffer.from(withoutNullUsage(Buffer.from(text))).toString();
const event = (json: string) => `data: ${json}\n\n`;

describe('an event less the usage that was added', () => {
  it.each([
    ['{"a":1,"usage":null}', '{"a":1}'],
    ['{"a":1,"usage":null,"obfuscation":"x"}', '{"a":1,"obfuscation":"x"}'],
    ['{"usage":null,"a":1}', '{"a":1}'],
    ['{"usage":null}', '{}'],
    ['{"a":1, "usage" : null }', '{"a":1}'],
    ['{"a":"é\\"usage\\":null","usage":null}', '{"a":"é\\"usage\\":null"}'],
  ])('%s becomes %s', (given, expected) => {
    expect(strip(event(given))).toBe(event(expected));
    expect(strip(`event: x\r\ndata:${given}\r\n\r\n`)).toBe(`event: x\r\ndata:${expected}\r\n\r\n`);
  });

  it.each([
    '{"a":1,"usage":{"prompt_tokens":1}}',
    '{"a":{"usage":null}}',
    '{"a":[{"usage":null}]}',
    '{"a":"\\"usage\\":null"}',
    '{"a":1,"\\u0075sage":null,"b":"usage"}',
    '{"a":1,"usage":null',
    '"usage"',
    '[DONE]',
  ])('%s stays as it is', (given) => {
    const bytes = Buffer.from(event(given));
    expect(withoutNullUsage(bytes)).toBe(bytes);
  });

  it('says what it would without the member, for any JSON', () => {
    const members = fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 5 });
    fc.assert(
      fc.property(members, fc.nat(), fc.constantFrom(undefined, 1), (object, position, indent) => {
        const { usage: _, ...rest } = object;
        const entries = Object.entries(rest);
        entries.splice(position % (entries.length + 1), 0, ['usage', null]);
        const text = JSON.stringify(Object.fromEntries(entries), null, indent).replaceAll(
          '\n',
          ' ',
        );
        const stripped = strip(event(text)).slice(6).trim();
        expect(JSON.parse(stripped)).toEqual(JSON.parse(JSON.stringify(rest)));
      }),
    );
  });

  it('in a stream that is cut anywhere, and only for a client that did not ask', () => {
    const chunk = '{"id":"c","choices":[{"delta":{"content":"a"}}],"usage":null}';
    const last = '{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}';
    const bytes = Buffer.from(`${event(chunk)}${event(chunk)}${event(last)}data: [DONE]\n\n`);
    const plain = event(chunk.replace(',"usage":null', ''));
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 6 }), (cuts) => {
        for (const hideUsageChunk of [true, false]) {
          const gate = createStreamGate('openai-chat', { hideUsageChunk });
          const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
          const out = at
            .slice(1)
            .flatMap((end, index) => gate.push(bytes.subarray(at[index], end)).map(String));
          const all = out.join('') + Buffer.from(gate.held()).toString();
          expect(all).toBe(hideUsageChunk ? `${plain}${plain}data: [DONE]\n\n` : String(bytes));
        }
      }),
    );
  });
});
