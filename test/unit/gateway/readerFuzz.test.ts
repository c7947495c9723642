import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { boundRequest, isUnbounded } from '../../../src/gateway/holds/requestBounds.js';
import { toUsageEvent } from '../../../src/gateway/metering/index.js';
import { createPricer, priceFields, repriceUnpriced } from '../../../src/gateway/prices/index.js';
import {
  API_KINDS,
  createUsageReader,
  prepareRequest,
  type UsageReading,
  type WireFormat,
} from '../../../src/gateway/processUsage/index.js';
import { validateEvent } from '../../../src/record/event.js';
import type { UsageEvent } from '../../../src/record/types.js';
import { inForm } from '../../support/form.js';
import { hostilePayloads, hostileUsage } from './hostileUsage.js';
import { NOW } from './meterCall.js';

/**
 * No answer of any shape, split anywhere, throws, hangs, bills a negative amount or more than the
 * ledger takes; every row of one is a row that the ledger takes; how it is cut changes nothing.
 */
const FORMATS = Object.keys(API_KINDS) as WireFormat[];
const HOSTS = [null, 'api.openai.com', 'eu.api.openai.com', 'api.perplexity.ai', 'api.x.ai', ''];
/** More of all runs, for a long one. */
const TIMES = Number(process.env.MICRODOLLAR_FUZZ_TIMES ?? inForm(0.25, 1));
const TIMEOUT_MS = 180_000 * Math.max(1, TIMES);
const pricer = createPricer();

const answer = fc.constantFrom(...FORMATS).chain((format) =>
  fc.record({
    format: fc.constant(format),
    streamed: fc.boolean(),
    payloads: fc.array(hostilePayloads[format] as fc.Arbitrary<string>, {
      minLength: 1,
      maxLength: 4,
    }),
    hasEnd: fc.boolean(),
    newline: fc.constantFrom('\n', '\r\n', '\r'),
    /** Of its bytes. */
    share: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
    host: fc.constantFrom(...HOSTS),
    isCancelled: fc.boolean(),
  }),
);
type Answer = typeof answer extends fc.Arbitrary<infer Value> ? Value : never;

function bytesOf({ streamed, payloads, hasEnd, newline, share }: Answer): Buffer {
  const events = hasEnd ? [...payloads, '[DONE]'] : payloads;
  const all = streamed
    ? events.map((event) => `data: ${event}${newline}${newline}`).join('')
    : (payloads[0] ?? '');
  const bytes = Buffer.from(all);
  return bytes.subarray(0, Math.ceil(bytes.length * share));
}

function read({ format, streamed }: Answer, pieces: readonly Uint8Array[]): UsageReading {
  const reader = createUsageReader(format, { streamed });
  for (const piece of pieces) reader.push(piece);
  const reading = reader.end();
  expect(reading.failure).toBeUndefined();
  return reading;
}

function rowOf({ format, streamed, host, isCancelled }: Answer, reading: UsageReading): UsageEvent {
  const request = prepareRequest(format, Buffer.from('{"model":"gpt-5","input":"x"}'));
  return toUsageEvent(
    {
      id: '01900000-0000-7000-8000-000000000001',
      kiloUserId: 'ada',
      organizationId: null,
      startedAt: NOW,
      format,
      apiKind: API_KINDS[format],
      provider: 'openai',
      request,
    },
    {
      reading,
      statusCode: 200,
      wasSent: true,
      isBroken: !isCancelled,
      isCancelled,
      streamed,
      elapsedMs: 0,
      latencyMs: null,
      generationMs: null,
    },
    (used, at) =>
      priceFields(pricer, used, { format, requestedModel: 'gpt-5', upstreamHost: host, at }),
    NOW,
  );
}

const split = (bytes: Buffer, at: readonly number[]) => {
  const edges = [0, ...at.map((each) => each % (bytes.length + 1)), bytes.length];
  edges.sort((one, other) => one - other);
  return edges.slice(1).map((until, index) => bytes.subarray(edges[index], until));
};

describe('answers of any shape', { timeout: TIMEOUT_MS }, () => {
  it('make rows that the ledger takes, and never bill less than nothing', () => {
    fc.assert(
      fc.property(answer, (each) => {
        const row = rowOf(each, read(each, [bytesOf(each)]));
        validateEvent(row, { nulBytesRemoved: 0 }, NOW.getTime());
        expect(row.cost).toBeGreaterThanOrEqual(0);
        expect(row.cost).toBeLessThanOrEqual(1e12);
        expect((row.cache_hit_tokens ?? 0) + (row.cache_write_tokens ?? 0)).toBeLessThanOrEqual(
          row.input_tokens ?? 0,
        );
        expect(row.metadata?.reported_cost ?? 0).toBeGreaterThanOrEqual(0);
        expect(JSON.stringify(row.metadata?.usage_details ?? {}).length).toBeLessThan(8_192);
      }),
      { numRuns: 3_000 * TIMES },
    );
  });

  it('are read the same however they are cut', () => {
    fc.assert(
      fc.property(answer, fc.array(fc.nat(), { maxLength: 20 }), (each, at) => {
        const bytes = bytesOf(each);
        expect(read(each, split(bytes, at))).toEqual(read(each, [bytes]));
      }),
      { numRuns: 1_000 * TIMES },
    );
  });

  it('byte by byte', () => {
    fc.assert(
      fc.property(answer, (each) => {
        const bytes = bytesOf(each);
        const pieces = [...bytes].map((byte) => Uint8Array.of(byte));
        expect(read(each, pieces)).toEqual(read(each, [bytes]));
      }),
      { numRuns: 100 * TIMES },
    );
  });

  it('that are longer than is kept, with hostile usage amid them', () => {
    const filler = `"${'{"usage":{'.repeat(20_000).replaceAll('"', '\\"')}"`;
    const opening = '"usage":{'.repeat(20_000);
    fc.assert(
      fc.property(answer, fc.constantFrom(filler, opening), (each, long) => {
        const bytes = Buffer.concat([
          Buffer.from(`{"a":${long},"big":"${'b'.repeat(1_100_000)}",`),
          bytesOf(each),
        ]);
        const row = rowOf(each, read(each, [bytes]));
        expect(row.cost).toBeGreaterThanOrEqual(0);
        validateEvent(row, { nulBytesRemoved: 0 }, NOW.getTime());
      }),
      { numRuns: 20 * TIMES },
    );
  });
});

/** What is read of a request. */
const MEMBERS = [
  ...['model', 'messages', 'input', 'prompt', 'system', 'instructions', 'content', 'text', 'type'],
  ...['max_tokens', 'max_completion_tokens', 'max_output_tokens', 'n', 'best_of', 'stream_options'],
  ...['tools', 'functions', 'reasoning', 'reasoning_effort', 'thinking', 'user', 'metadata'],
  ...['safety_identifier', 'previous_response_id', 'background', 'service_tier', 'speed', 'role'],
];

describe('requests of any shape', { timeout: TIMEOUT_MS }, () => {
  it('are prepared, and bounded or said to have no bound', () => {
    const members = fc.dictionary(fc.constantFrom(...MEMBERS), hostileUsage, { maxKeys: 6 });
    fc.assert(
      fc.property(fc.constantFrom(...FORMATS), members, fc.boolean(), (format, given, streamed) => {
        const texts = Object.entries(given).map(([name, value]) => `"${name}":${value}`);
        const body = Buffer.from(`{${[`"stream":${streamed}`, ...texts].join(',')}}`);
        const prepared = prepareRequest(format, body);
        expect(prepared.inputTokensEstimate).toBeGreaterThanOrEqual(0);
        const path = format === 'openai-responses' ? '/v1/responses' : '/v1/chat/completions';
        const bounds = boundRequest({ format, path, side: null, body, prepared });
        if (isUnbounded(bounds)) expect(bounds.why).not.toBe('');
        else expect(bounds.inputTokens).toBeGreaterThanOrEqual(0);
      }),
      { numRuns: 1_000 * TIMES },
    );
  });
});

describe('usage that has no price yet', { timeout: TIMEOUT_MS }, () => {
  it('costs the same once it has, as if it had had one at first', () => {
    const file = { at: NOW };
    fc.assert(
      fc.property(answer, (each) => {
        const reading = { ...read(each, [bytesOf(each)]), costUsd: null, upstreamCostUsd: null };
        const context = {
          format: each.format,
          requestedModel: 'gpt-5',
          upstreamHost: each.host,
          organizationId: null,
          ...file,
        };
        const used = {
          ...reading,
          inputTokens: reading.inputTokens ?? 0,
          outputTokens: reading.outputTokens ?? 0,
        };
        const first = pricer.price(used, context);
        const never = { ...pricer, price: () => ({ unpriced: true, reason: 'no_model' }) as const };
        const { basis } = priceFields(never, used, context);
        const later = repriceUnpriced(
          pricer,
          {
            id: '01900000-0000-7000-8000-000000000001',
            created_at: NOW.toISOString(),
            kilo_user_id: 'ada',
            organization_id: null,
            provider: null,
            model: used.model,
            requested_model: 'gpt-5',
            inference_provider: null,
            project_id: null,
            input_tokens: 0,
            output_tokens: 0,
            cache_write_tokens: 0,
            cache_hit_tokens: 0,
            reasoning_tokens: null,
            usage_details: JSON.parse(JSON.stringify({ price: basis })),
          },
          { format: each.format, upstreamHost: 'another.example' },
        );
        if ('unpriced' in first) expect(later).toEqual(first);
        else expect(later).toMatchObject({ cost: first.costMicrodollars });
      }),
      { numRuns: 1_500 * TIMES },
    );
  });
});
