import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { HTTP_STATUS, LedgerError } from '../../errors.js';
import { isUuid } from '../../ids.js';
import type { BatchResult, RecordResult, UsageEvent } from '../../record/types.js';
import { createEventAccess } from '../access.js';
import type { Principal } from '../auth.js';
import { toErrorBody } from '../errors.js';
import type { ServerPlugin, ServerServices } from '../plugins.js';
import { parseInput } from '../validation.js';

type Rejected = {
  id: string | null;
  status: 'rejected';
  created_at: null;
  new_microdollars_used: null;
  error: ReturnType<typeof toErrorBody>;
};

const body = z.strictObject({
  events: z.array(z.unknown()).min(1, 'must hold at least one event'),
});

/** `POST /api/usage`: one result per event, in order; one bad event never fails its neighbours. */
export const usageRoutes: ServerPlugin = (app, services) => {
  app.post('/api/usage', { onRequest: services.requireScope('usage:write') }, async (request) => {
    const { events } = parseInput(body, request.body);
    if (events.length > services.limits.events) {
      const limit = services.limits.events;
      throw new LedgerError(
        'payload_too_large',
        `${events.length} events; send at most ${limit} in one request, the rest in further requests`,
        { details: { field: 'events', limit } },
      );
    }
    const { tracing } = services.ledger;
    const run = () => record(services, request.principal as Principal, events);
    const results =
      tracing === null ? await run() : await tracing.linked(idsOf(events), request.span, run);
    throwIfUnavailable(results);
    for (const result of results) {
      if (result.status === 'rejected' && HTTP_STATUS[result.error.code] >= 500) {
        request.log.error({ eventId: result.id, code: result.error.code }, result.error.message);
      }
    }
    return { results };
  });
};

/** Of those whose ids were given; the others' are made later. */
function idsOf(events: readonly unknown[]): unknown[] {
  return events.map((event) => (event as { id?: unknown } | null)?.id);
}

async function record(
  services: ServerServices,
  principal: Principal,
  events: readonly unknown[],
): Promise<(RecordResult | Rejected)[]> {
  const refuse = await createEventAccess(services.ledger.pool, principal, events);
  const results: (RecordResult | Rejected)[] = [];
  const allowed: { event: UsageEvent; index: number }[] = [];
  for (const [index, event] of events.entries()) {
    const refusal = refuse(event);
    if (refusal === null) {
      allowed.push({ event: withOwn(event, principal), index });
      continue;
    }
    services.ledger.metrics.events.inc({ kind: 'usage', outcome: 'rejected' });
    services.ledger.metrics.rejections.inc({ code: refusal.code });
    results[index] = toRejected(event, refusal);
  }
  const recorded: BatchResult[] =
    allowed.length === 0
      ? []
      : await services.ledger.recordUsageBatch(allowed.map(({ event }) => event));
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
    id: id ?? uuidv7(),
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
