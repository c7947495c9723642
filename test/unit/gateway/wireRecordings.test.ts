import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createStreamGate,
  createUsageReader,
  type UsageReading,
} from '../../../src/gateway/processUsage/index.js';
import { frameRecording, listRecordings, type Recording } from '../../support/wireRecordings.js';

/** Every recording, in random pieces: what passes, and what is read of it. */
const recordings = listRecordings().map(
  (recording) => [`${recording.api}/${recording.name}`, recording] as const,
);
const streams = recordings.filter(([, recording]) => recording.streamed);
const FRAMINGS = ['\n', '\r\n', '\r'] as const;
const TERMINAL = /data: ?(\[DONE\]|\{"type":"(message_stop|response\.(completed|incomplete))")/;

interface Tokens {
  input: number;
  output: number;
  cacheWrite: number;
  cacheHit: number;
}

describe('usage readings of recordings', () => {
  it('has recordings of every format, streamed and whole', () => {
    const kinds = new Set(recordings.map(([, { api, streamed }]) => `${api} ${streamed}`));
    expect(kinds.size).toBe(6);
    expect(recordings.length).toBeGreaterThanOrEqual(45);
  });

  it.each(recordings)('%s: the tokens of the recording, however it is cut', (_name, recording) => {
    const bytes = frameRecording(recording);
    const expected = plainTokens(recording);
    fc.assert(
      fc.property(cuts(bytes.length), (at) => {
        const reading = read(recording, split(bytes, at));
        expect(tokensOf(reading)).toEqual(expected);
        expect(reading).toMatchObject({ complete: true, malformedChunks: 0, usage: 'final' });
        expect(reading.cacheHitTokens + reading.cacheWriteTokens).toBeLessThanOrEqual(
          reading.inputTokens ?? 0,
        );
      }),
      { numRuns: 8 },
    );
  });

  it.each(recordings)('%s: model, message id and finish reason', (_name, recording) => {
    const reading = read(recording, [frameRecording(recording)]);
    const text = recording.payloads.join('\n');
    expect(reading.error).toBeNull();
    expect(reading.model).not.toBeNull();
    expect(text).toContain(`"${reading.model}"`);
    expect(text).toContain(`"${reading.messageId}"`);
    expect(text).toContain(`"${reading.finishReason}"`);
  });

  it.each(streams)('%s: cut short, never final, nor ever a throw', (_name, recording) => {
    const bytes = frameRecording(recording);
    const end = bytes.toString().search(TERMINAL);
    expect(end).toBeGreaterThan(0);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: end }), (length) => {
        expect(read(recording, [bytes.subarray(0, length)]).complete).toBe(false);
      }),
      { numRuns: 20 },
    );
  });
});

describe('stream gate on recordings', () => {
  it.each(streams)('%s: every byte once and in order, the end held', (_name, recording) => {
    for (const newline of FRAMINGS) {
      const bytes = reframe(recording, newline);
      fc.assert(
        fc.property(cuts(bytes.length), fc.boolean(), (at, hideUsageChunk) => {
          const expected = hideUsageChunk ? withoutUsageChunk(recording, newline) : bytes;
          const { sent, held } = pass(recording, split(bytes, at), hideUsageChunk);
          expect(Buffer.concat([sent, held]).equals(expected)).toBe(true);
          expect(sent.toString()).not.toMatch(TERMINAL);
          expect(held.toString()).toMatch(TERMINAL);
        }),
        { numRuns: 6 },
      );
    }
  });

  it.each(streams)('%s: each event passes as soon as it is whole', (_name, recording) => {
    for (const newline of FRAMINGS) {
      const events = reframe(recording, newline).toString().split(`${newline}${newline}`);
      // Whole at once, and with the last byte of the blank line apart, amid a CRLF.
      for (const apart of [0, 1]) {
        const gate = createStreamGate(recording.api, { hideUsageChunk: false });
        let passed = 0;
        for (const event of events) {
          const bytes = Buffer.from(`${event}${newline}${newline}`);
          const pieces = [
            bytes.subarray(0, bytes.length - apart),
            bytes.subarray(-apart || Infinity),
          ];
          const sent = Buffer.concat(pieces.flatMap((piece) => gate.push(piece)));
          if (gate.sawTerminal) break;
          expect(sent.equals(bytes)).toBe(true);
          passed++;
        }
        expect(passed).toBeGreaterThan(0);
      }
    }
  });
});

/** An independent, plain reading: another parser of events, and the formats' documentation. */
function plainTokens(recording: Recording): Tokens {
  let usage: Record<string, unknown> = {};
  if (recording.streamed) {
    const parser = createParser({
      onEvent({ data }) {
        if (data === '[DONE]') return;
        const payload = JSON.parse(data);
        if (payload.type === 'message_start') usage = payload.message.usage;
        else if (payload.type === 'message_delta') usage = { ...usage, ...payload.usage };
        else if (payload.type === 'response.completed') usage = payload.response.usage;
        else if (payload.object === 'chat.completion.chunk') usage = payload.usage ?? usage;
      },
    });
    parser.feed(frameRecording(recording).toString());
  } else {
    usage = JSON.parse(recording.payloads.join('')).usage;
  }
  const count = (name: string, part?: string) =>
    Number((part === undefined ? usage : (usage[name] as object))?.[(part ?? name) as never] ?? 0);
  if (recording.api === 'anthropic-messages') {
    const cacheWrite = count('cache_creation_input_tokens');
    const cacheHit = count('cache_read_input_tokens');
    const input = count('input_tokens') + cacheWrite + cacheHit;
    return { input, output: count('output_tokens'), cacheWrite, cacheHit };
  }
  if (recording.api === 'openai-chat') {
    return {
      input: count('prompt_tokens'),
      output: count('completion_tokens'),
      cacheWrite: 0,
      cacheHit: count('prompt_tokens_details', 'cached_tokens'),
    };
  }
  return {
    input: count('input_tokens'),
    output: count('output_tokens'),
    cacheWrite: count('input_tokens_details', 'cache_write_tokens'),
    cacheHit: count('input_tokens_details', 'cached_tokens'),
  };
}

function tokensOf(reading: UsageReading): Tokens {
  return {
    input: reading.inputTokens ?? -1,
    output: reading.outputTokens ?? -1,
    cacheWrite: reading.cacheWriteTokens,
    cacheHit: reading.cacheHitTokens,
  };
}

function read({ api, streamed }: Recording, pieces: readonly Buffer[]): UsageReading {
  const reader = createUsageReader(api, { streamed });
  for (const piece of pieces) reader.push(piece);
  return reader.end();
}

function pass({ api }: Recording, pieces: readonly Buffer[], hideUsageChunk: boolean) {
  const gate = createStreamGate(api, { hideUsageChunk });
  const sent = Buffer.concat(pieces.flatMap((piece) => gate.push(piece)));
  return { sent, held: Buffer.from(gate.held()) };
}

function reframe(recording: Recording, newline: string): Buffer {
  return Buffer.from(frameRecording(recording).toString().replaceAll('\n', newline));
}

function withoutUsageChunk(recording: Recording, newline: string): Buffer {
  const events = frameRecording(recording).toString().split('\n\n');
  const kept = events.filter((event) => !/"choices":\[\],"usage":\{/.test(event));
  expect(events.length - kept.length).toBe(recording.api === 'openai-chat' ? 1 : 0);
  const isChat = recording.api === 'openai-chat';
  const plain = kept.map((event) => (isChat ? event.replace(',"usage":null', '') : event));
  return Buffer.from(plain.join('\n\n').replaceAll('\n', newline));
}

/** Where to cut: few pieces, many, or single bytes around some place. */
function cuts(length: number): fc.Arbitrary<number[]> {
  const anywhere = fc.integer({ min: 0, max: length });
  return fc.oneof(
    fc.array(anywhere, { maxLength: 6 }),
    fc.array(anywhere, { minLength: 50, maxLength: 200 }),
    anywhere.map((from) => Array.from({ length: 200 }, (_, index) => from + index)),
  );
}

function split(bytes: Buffer, at: readonly number[]): Buffer[] {
  const sorted = [...at].sort((one, other) => one - other);
  const edges = [0, ...sorted.filter((each) => each <= bytes.length), bytes.length];
  return edges.slice(1).map((until, index) => bytes.subarray(edges[index], until));
}
