import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { HoldRequest, HoldResult } from '../../budgets/types.js';
import { MAX_EXPIRY_MS } from '../../budgets/validate.js';
import { LedgerError } from '../../errors.js';
import { isUuid } from '../../ids.js';
import { MAX_COST } from '../../record/event.js';
import type { UsageEvent } from '../../record/types.js';
import { createEventAccess } from '../access.js';
import type { Principal } from '../auth.js';
import { toErrorBody } from '../errors.js';
import type { ServerPlugin, ServerServices } from '../plugins.js';
import { parseBody, parseInput } from '../validation.js';

// Fields and types only; what a value may be is checked by the ledger (src/budgets/validate.ts).
const uuid = z.string().meta({ format: 'uuid' });
const amount = z.number().meta({
  type: 'integer',
  minimum: 0,
  maximum: MAX_COST,
  description: 'Microdollars, the most that it can cost.',
});
export const newHold = z.strictObject({
  id: uuid
    .nullish()
    .describe('Idempotency key, and the id of the usage row to come. Made when absent.'),
  kilo_user_id: z.string().meta({ minLength: 1, maxLength: 256 }),
  organization_id: uuid.nullish().describe('The organization that pays; null: the user.'),
  api_key_id: uuid.nullish().describe('Budgets of a key count it. Default: the key in use.'),
  project_id: z.string().nullish().describe('Budgets of a project count it.'),
  amount,
  expires_in_ms: z.number().nullish().meta({
    minimum: 1,
    maximum: MAX_EXPIRY_MS,
    description: 'Released by itself after this time. Default ten minutes.',
  }),
});
export const settlement = z.strictObject({
  event: z.record(z.string(), z.unknown()).meta({
    $ref: '#/components/schemas/UsageEvent',
    description: 'With the id of the hold, or none.',
  }),
});
export const extension = z.strictObject({
  amount: amount.describe('Microdollars held in all, from now on.'),
});
export const idParam = z.object({ id: uuid });

/** Holds over HTTP have no owner that lives or dies: they expire by their time. */
export const holdRoutes: ServerPlugin = (app, services) => {
  const { ledger } = services;
  app.addHook('onRequest', services.requireScope('usage:write'));

  app.post('/api/holds', async (request, reply) => {
    const principal = request.principal as Principal;
    const hold = withOwnKey(parseBody(newHold, request.body) as HoldRequest, principal);
    await checkAccess(services, principal, hold, { isNew: true });
    return answer(reply, await ledger.holdForClient(hold));
  });
  app.post('/api/holds/:id/settle', async (request) => {
    const { id } = parseInput(idParam, request.params);
    const { event } = parseBody(settlement, request.body);
    await checkAccess(services, request.principal as Principal, { ...event, id });
    return ledger.settle(id, event as unknown as UsageEvent);
  });
  app.post('/api/holds/:id/extend', async (request, reply) => {
    const { id } = parseInput(idParam, request.params);
    const wanted = parseBody(extension, request.body);
    await checkOwnHold(services, request.principal as Principal, id, { isNew: true });
    return answer(reply, await ledger.extend(id, wanted.amount));
  });
  const release = async (request: FastifyRequest) => {
    const { id } = parseInput(idParam, request.params);
    await checkOwnHold(services, request.principal as Principal, id);
    return ledger.release(id);
  };
  app.post('/api/holds/:id/release', release);
  app.delete('/api/holds/:id', release);
};

/** The key in use pays, as for usage. */
function withOwnKey(hold: HoldRequest, { keyId }: Principal): HoldRequest {
  return { ...hold, api_key_id: hold.api_key_id ?? (isUuid(keyId) ? keyId : null) };
}

async function checkAccess(
  services: ServerServices,
  principal: Principal,
  subject: unknown,
  options: { isNew?: boolean } = {},
): Promise<void> {
  const refuse = await createEventAccess(services.ledger, principal, [subject], options);
  const refusal = refuse(subject);
  if (refusal !== null) throw refusal;
}

/** Of a hold that is named by its id alone: whoever may write for its payer. */
async function checkOwnHold(
  services: ServerServices,
  principal: Principal,
  id: string,
  options: { isNew?: boolean } = {},
): Promise<void> {
  const holder = await services.ledger.findHolder(id);
  if (holder === null) return;
  await checkAccess(services, principal, { ...holder, id }, options);
}

/** Refused: 402 where only money helps, 429 with its time where the window's end does. */
function answer(reply: FastifyReply, result: HoldResult) {
  if (result.status !== 'refused') return result;
  const { resets_at: resetsAt, refused_by: budget } = result;
  if (resetsAt) {
    const seconds = Math.max(1, Math.ceil((Date.parse(resetsAt) - Date.now()) / 1000));
    reply.code(429).header('retry-after', String(seconds));
  } else {
    reply.code(402);
  }
  const what = budget?.is_balance ? 'the balance' : `the ${budget?.window} budget`;
  const error = new LedgerError(
    'budget_exceeded',
    `${what} of the ${budget?.scope} has ${result.available_microdollars} microdollars left`,
    { details: { ...result } },
  );
  return { error: toErrorBody(error) };
}
