import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { HoldRequest, HoldResult } from '../../budgets/types.js';
import { LedgerError } from '../../errors.js';
import { isUuid } from '../../ids.js';
import type { UsageEvent } from '../../record/types.js';
import { createEventAccess } from '../access.js';
import type { Principal } from '../auth.js';
import { toErrorBody } from '../errors.js';
import type { ServerPlugin, ServerServices } from '../plugins.js';
import { parseInput } from '../validation.js';

// Fields and types only; what a value may be is checked by the ledger (src/budgets/validate.ts).
const newHold = z.strictObject({
  id: z.string().nullish(),
  kilo_user_id: z.string(),
  organization_id: z.string().nullish(),
  api_key_id: z.string().nullish(),
  project_id: z.string().nullish(),
  amount: z.number(),
  expires_in_ms: z.number().nullish(),
});
const settlement = z.strictObject({ event: z.record(z.string(), z.unknown()) });
const extension = z.strictObject({ amount: z.number() });
const idParam = z.object({ id: z.string() });

/** Holds over HTTP have no owner that lives or dies: they expire by their time. */
export const holdRoutes: ServerPlugin = (app, services) => {
  const { ledger } = services;
  app.addHook('onRequest', services.requireScope('usage:write'));

  app.post('/api/holds', async (request, reply) => {
    const principal = request.principal as Principal;
    const hold = withOwnKey(parseInput(newHold, request.body) as HoldRequest, principal);
    await checkAccess(services, principal, hold);
    return answer(reply, await ledger.holdForClient(hold));
  });
  app.post('/api/holds/:id/settle', async (request) => {
    const { id } = parseInput(idParam, request.params);
    const { event } = parseInput(settlement, request.body);
    await checkAccess(services, request.principal as Principal, { ...event, id });
    return ledger.settle(id, event as unknown as UsageEvent);
  });
  app.post('/api/holds/:id/extend', async (request, reply) => {
    const { id } = parseInput(idParam, request.params);
    const { amount } = parseInput(extension, request.body);
    await checkOwnHold(services, request.principal as Principal, id);
    return answer(reply, await ledger.extend(id, amount));
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
): Promise<void> {
  const refuse = await createEventAccess(services.ledger.pool, principal, [subject]);
  const refusal = refuse(subject);
  if (refusal !== null) throw refusal;
}

/** Of a hold that is named by its id alone: whoever may write for its payer. */
async function checkOwnHold(
  services: ServerServices,
  principal: Principal,
  id: string,
): Promise<void> {
  const holder = await services.ledger.findHolder(id);
  if (holder === null) return;
  await checkAccess(services, principal, { ...holder, id });
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
