import { type CallEnd, toUsageEvent } from '../../../src/gateway/metering/index.js';
import { createPricer, type Pricer, priceFields } from '../../../src/gateway/prices/index.js';
import {
  API_KINDS,
  prepareRequest,
  type UsageReading,
  type WireFormat,
} from '../../../src/gateway/processUsage/index.js';
import { readBytes } from './readBytes.js';

const listPricer = createPricer();
/** Of every call here: prices have dates. */
export const NOW = new Date('2026-11-22T12:00:00Z');

export interface Call {
  format?: WireFormat;
  request?: object;
  /** A whole answer, or the payloads of a stream. */
  body?: object | string;
  events?: readonly (object | string)[];
  host?: string | null;
  organizationId?: string | null;
  pricer?: Pricer;
  end?: Partial<CallEnd>;
  startedAt?: Date;
  now?: Date;
}

/** What is read of an answer, pushed in odd pieces. */
export function readAnswer({ format = 'openai-chat', body, events }: Call): UsageReading {
  if (events === undefined) {
    return readBytes(format, false, Buffer.from(text(body ?? {})), 17);
  }
  const stream = events.map((event) => `data: ${text(event)}\n\n`).join('');
  return readBytes(format, true, Buffer.from(stream), 17);
}

/** The row of a call, as the gateway and the SDK make it. */
export function meterCall(call: Call) {
  const { format = 'openai-chat', request = {}, events, host = null } = call;
  const { organizationId = null, pricer = listPricer, now = NOW, startedAt = now } = call;
  const prepared = prepareRequest(format, Buffer.from(JSON.stringify(request)));
  const isSilent = call.body === undefined && events === undefined;
  return toUsageEvent(
    {
      id: '01900000-0000-7000-8000-000000000001',
      kiloUserId: 'ada',
      organizationId,
      startedAt,
      format,
      apiKind: API_KINDS[format],
      provider: 'openai',
      request: prepared,
    },
    {
      reading: isSilent ? null : readAnswer(call),
      statusCode: isSilent ? null : 200,
      wasSent: true,
      isBroken: false,
      isCancelled: false,
      streamed: events !== undefined,
      elapsedMs: 0,
      latencyMs: null,
      generationMs: null,
      ...call.end,
    },
    (reading, at) =>
      priceFields(pricer, reading, {
        format,
        requestedModel: prepared.requestedModel,
        upstreamHost: host,
        organizationId,
        at,
      }),
    now,
  );
}

function text(payload: object | string): string {
  return typeof payload === 'string' ? payload : JSON.stringify(payload);
}

/** A chat answer of one word with this usage. */
export function chatAnswer(usage: object, more: object = {}): object {
  return {
    id: 'c1',
    object: 'chat.completion',
    model: 'gpt-4o',
    choices: [{ index: 0, message: { role: 'assistant', content: 'Hi.' }, finish_reason: 'stop' }],
    usage,
    ...more,
  };
}
