import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { HTTP_STATUS, LedgerError } from '../../errors.js';
import { isUuid, newUuid } from '../../ids.js';
import type { Ledger } from '../../ledgerTypes.js';
import type { BatchResult, RecordResult, UsageEvent } from '../../record/types.js';
import { createEventAccess } from '../access.js';
import type { Principal } from '../auth.js';
import { CLOUD_EVENT, CLOUD_EVENT_BATCH, readBinary, toUsageEvent } from '../cloudEvents.js';
import { toErrorBody } from '../errors.js';
import { addJsonParser } from '../jsonParser.js';
import { DEFAULT_LIMITS } from '../options.js';
import type { ServerPlugin } from '../plugins.js';
import { parseBody } from '../validation.js';

type Rejected = {
  id: string | null;
  status: 'rejected';
  created_at: null;
  new_microdollars_used: null;
  error: ReturnType<typeof toErrorBody>;
};

export const usageBody = z.strictObject({
  events: z
    .array(z.unknown().meta({ $ref: '#/components/schemas/UsageEvent' }))
    .min(1, 'must hold at least one event')
    .meta({ maxItems: DEFAULT_LIMITS.events }),
});
export const cloudEventBatch = z
  .array(z.unknown().meta({ $ref: '#/components/schemas/CloudEvent' }))
  .min(1, 'must hold at least one event')
  .meta({ maxItems: DEFAULT_LIMITS.events });

/** `POST /api/usage`: one result per event, in order; one bad event never fails its neighbours. */
export const usageRoutes: ServerPlugin = (app, services) => {
  const { ledger, limits, bodies } = services;
  const onRequest = services.requireScope('usage:write');
  const types = [CLOUD_EVENT, CLOUD_EVENT_BATCH];
  addJsonParser(app, { maxDepth: limits.jsonDepth, bodies }, types);
  app.post('/api/usage', { onRequest }, async (request, reply) => {
    const { events, isOne } = readEvents(request);
    if (events.length > limits.events) {
      const limit = limits.events;
      throw new LedgerError(
        'payload_too_large',
        `${events.length} events; send at most ${limit} in one request, the rest in further requests`,
        { details: { field: 'events', limit } },
      );
    }
    const { tracing } = ledger;
    const run = () => record(ledger, request.principal as Principal, events);
    const results =
      tracing === null ? await run() : await tracing.linked(idsOf(events), request.span, run);
    throwIfUnavailable(results);
    for (const result of results) {
      if (result.status === 'rejected' && HTTP_STATUS[result.error.code] >= 500) {
        request.log.error({ eventId: result.id, code: result.error.code }, result.error.message);
      }
    }
    const [first] = results;
    if (!isOne || first?.status !== 'rejected') return { results };
    return reply.code(HTTP_STATUS[first.error.code]).send({ error: first.error });
  });
};

/** Of those whose ids were given; the others' are made later. */
function idsOf(events: readonly unknown[]): unknown[] {
  return events.map((event) => (event as { id?: unknown } | null)?.id);
}

interface Sent {
  /** As sent, or why it is no event. */
  events: readonly unknown[];
  /** A CloudEvent by itself: its sender looks at the status alone. */
  isOne: boolean;
}

function readEvents({ headers, body }: FastifyRequest): Sent {
  const type = (headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase();
  if (type === CLOUD_EVENT) return { events: [toUsageEvent(body)], isOne: true };
  if (type === CLOUD_EVENT_BATCH) {
    return { events: parseBody(cloudEventBatch, body).map(toUsageEvent), isOne: false };
  }
  const binary = readBinary(headers, body);
  if (binary !== null) return { events: [binary], isOne: true };
  return { events: parseBody(usageBody, body).events, isOne: false };
}

async function record(
  ledger: Ledger,
  principal: Principal,
  events: readonly unknown[],
): Promise<(RecordResult | Rejected)[]> {
  const refuse = await createEventAccess(ledger, principal, events);
  const results: (RecordResult | Rejected)[] = [];
  const allowed: { event: UsageEvent; index: number }[] = [];
  for (const [index, event] of events.entries()) {
    const refusal = event instanceof LedgerError ? event : refuse(event);
    if (refusal === null) {
      allowed.push({ event: withOwn(event, principal), index });
      continue;
    }
    ledger.metrics.events.inc({ kind: 'usage', outcome: 'rejected' });
    ledger.metrics.rejections.inc({ code: refusal.code });
    results[index] = toRejected(event, refusal);
  }
  const recorded: BatchResult[] =
    allowed.length === 0 ? [] : await ledger.recordUsageBatch(allowed.map(({ event }) => event));
  for (const [position, { event, index }] of allowed.entries()) {
    const result = recorded[position];
    if (result !== undefined && result.status !== 'rejected') {
      results[index] = result;
      continue;
    }
    const isAmbiguous = !(result?.error instanceof LedgerError) || result.error.retryable;
    // After an ambiguous failure the id that was made here makes the retry safe (I3).
    results[index] = toRejected(isAmbiguous ? event : events[index], result?.error);
  }
  return results;
}

/** With an id, and the key in use as the one that paid. The ledger validates whatever it is. */
function withOwn(event: unknown, { keyId }: Principal): UsageEvent {
  const isObject = typeof event === 'object' && event !== null && !Array.isArray(event);
  if (!isObject) return event as unknown as UsageEvent;
  const { id, api_key_id } = event as UsageEvent;
  return {
    ...(event as UsageEvent),
    id: id ?? newUuid(),
    api_key_id: api_key_id ?? (isUuid(keyId) ? keyId : null),
  };
}

/**
 * Nothing was recorded and the ledger is away: the request as a whole may be sent again, which
 * says more than a thousand rejections.
 */
function throwIfUnavailable(results: readonly (RecordResult | Rejected)[]): void {
  let first: Rejected | null = null;
  for (const result of results) {
    if (result.status !== 'rejected') return;
    if (result.error.code === 'unavailable') first ??= result;
  }
  if (first === null) return;
  const eventIds = results.map((result) => result.id);
  throw new LedgerError(
    'unavailable',
    `${first.error.message}; send the same events again, with the ids in details.event_ids`,
    { details: { event_ids: eventIds } },
  );
}

function toRejected(event: unknown, error: unknown): Rejected {
  const id = (event as { id?: unknown } | null | undefined)?.id;
  return {
    id: typeof id === 'string' ? id.slice(0, 64) : null,
    status: 'rejected',
    created_at: null,
    new_microdollars_used: null,
    error: toErrorBody(error),
  };
}
