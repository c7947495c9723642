import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createStreamGate,
  createUsageReader,
  type UsageReading,
} from '../../../src/gateway/processUsage/index.js';
import { type Answer, frameAnswer } from '../../support/answers/index.js';
import { inForm } from '../../support/form.js';

const FRAMINGS = ['\n', '\r\n', '\r'] as const;
const TERMINAL = /data: ?(\[DONE\]|\{"type":"(message_stop|response\.(completed|incomplete))")/;

/** Each answer in random pieces: what passes, and what is read of it. */
export function describeReadings(answers: readonly Answer[]): void {
  const all = answers.map((answer) => [`${answer.api}/${answer.name}`, answer] as const);
  const streams = all.filter(([, { streamed }]) => streamed);
  it('has answers of every format, streamed and whole', () => {
    const kinds = new Set(answers.map(({ api, streamed }) => `${api} ${streamed}`));
    expect(kinds.size).toBe(6);
  });
  describe('usage readings', () => describeUsage(all, streams));
  describe('stream gate', () => describeGate(streams));
}

type Named = (readonly [name: string, answer: Answer])[];

function describeUsage(all: Named, streams: Named): void {
  it.each(streams)('%s: framed so that another parser reads it', (_name, answer) => {
    const payloads: string[] = [];
    const parser = createParser({ onEvent: ({ data }) => void payloads.push(data) });
    parser.feed(frameAnswer(answer).toString());
    expect(payloads.filter((payload) => payload !== '[DONE]')).toEqual(answer.payloads);
  });

  it.each(all)('%s: its tokens, however it is cut', (_name, answer) => {
    const bytes = frameAnswer(answer);
    const { inputTokens, outputTokens, cacheWriteTokens, cacheHitTokens, reasoningTokens } =
      answer.usage;
    const expected = {
      inputTokens,
      outputTokens,
      cacheWriteTokens,
      cacheHitTokens,
      reasoningTokens,
    };
    fc.assert(
      fc.property(cuts(bytes.length), (at) => {
        const reading = read(answer, split(bytes, at));
        expect(reading).toMatchObject({
          ...expected,
          complete: true,
          malformedChunks: 0,
          usage: 'final',
        });
        expect(reading.cacheHitTokens + reading.cacheWriteTokens).toBeLessThanOrEqual(
          reading.inputTokens ?? 0,
        );
      }),
      { numRuns: inForm(4, 8) },
    );
  });

  it.each(all)('%s: model, message id and finish reason', (_name, answer) => {
    const reading = read(answer, [frameAnswer(answer)]);
    const text = answer.payloads.join('\n');
    const { model, messageId } = answer.usage;
    expect(reading).toMatchObject({ error: null, model, messageId });
    expect(text).toContain(`"${reading.finishReason}"`);
  });

  it.each(streams)('%s: cut short, never final, nor ever a throw', (_name, answer) => {
    const bytes = frameAnswer(answer);
    const end = bytes.toString().search(TERMINAL);
    expect(end).toBeGreaterThan(0);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: end }), (length) => {
        expect(read(answer, [bytes.subarray(0, length)]).complete).toBe(false);
      }),
      { numRuns: inForm(8, 20) },
    );
  });
}

function describeGate(streams: Named): void {
  it.each(streams)('%s: every byte once and in order, the end held', (_name, answer) => {
    for (const newline of FRAMINGS) {
      const bytes = reframe(answer, newline);
      fc.assert(
        fc.property(cuts(bytes.length), fc.boolean(), (at, hideUsageChunk) => {
          const expected = hideUsageChunk ? withoutUsageChunk(answer, newline) : bytes;
          const { sent, held } = pass(answer, split(bytes, at), hideUsageChunk);
          expect(Buffer.concat([sent, held]).equals(expected)).toBe(true);
          expect(sent.toString()).not.toMatch(TERMINAL);
          expect(held.toString()).toMatch(TERMINAL);
        }),
        { numRuns: inForm(3, 6) },
      );
    }
  });

  it.each(streams)('%s: each event passes as soon as it is whole', (_name, answer) => {
    for (const newline of FRAMINGS) {
      const events = reframe(answer, newline).toString().split(`${newline}${newline}`);
      // Whole at once, and with the last byte of the blank line apart, amid a CRLF.
      for (const apart of [0, 1]) {
        const gate = createStreamGate(answer.api, { hideUsageChunk: false });
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
}

function read({ api, streamed }: Answer, pieces: readonly Buffer[]): UsageReading {
  const reader = createUsageReader(api, { streamed });
  for (const piece of pieces) reader.push(piece);
  return reader.end();
}

function pass({ api }: Answer, pieces: readonly Buffer[], hideUsageChunk: boolean) {
  const gate = createStreamGate(api, { hideUsageChunk });
  const sent = Buffer.concat(pieces.flatMap((piece) => gate.push(piece)));
  return { sent, held: Buffer.from(gate.held()) };
}

function reframe(answer: Answer, newline: string): Buffer {
  return Buffer.from(frameAnswer(answer).toString().replaceAll('\n', newline));
}

function withoutUsageChunk(answer: Answer, newline: string): Buffer {
  const events = frameAnswer(answer).toString().split('\n\n');
  const kept = events.filter((event) => !/"choices":\[\],"usage":\{/.test(event));
  expect(events.length - kept.length).toBe(answer.api === 'openai-chat' ? 1 : 0);
  const isChat = answer.api === 'openai-chat';
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
