import { z } from 'zod';
import { adjustUsage } from '../../accounts/adjust.js';
import { createApiKey, listApiKeys, revokeApiKey } from '../../accounts/apiKeys.js';
import { addCredit } from '../../accounts/credits.js';
import { listPayerCredits } from '../../accounts/listCredits.js';
import { removeOrganizationMember, setMemberRole } from '../../accounts/memberships.js';
import { addOrganizationMember, createOrganization } from '../../accounts/organizations.js';
import { createUser } from '../../accounts/users.js';
import type { ServerPlugin } from '../plugins.js';
import { parseInput } from '../validation.js';

// Fields and types only; what a value may be is checked where it is stored (src/accounts).
const optionalText = z.string().nullish();
const usd = z.union([z.string(), z.number()]);
const newUser = z.strictObject({
  id: z.string(),
  email: optionalText,
  name: optionalText,
  kilo_pass_threshold: z.number().nullish(),
});
const newOrganization = z.strictObject({ name: z.string(), id: optionalText });
const newMember = z.strictObject({ kilo_user_id: z.string(), role: z.string().optional() });
const newRole = z.strictObject({ role: z.string() });
const newKey = z.strictObject({
  name: optionalText,
  kilo_user_id: optionalText,
  organization_id: optionalText,
  scopes: z.array(z.string()),
});
const newCredit = z.strictObject({
  id: optionalText,
  kilo_user_id: optionalText,
  organization_id: optionalText,
  usd,
  description: optionalText,
  note: optionalText,
  expires_at: optionalText,
  priority: z.number().nullish(),
});
const creditPayer = z.strictObject({
  kilo_user_id: z.string().optional(),
  organization_id: z.string().optional(),
});
const newAdjustment = z.strictObject({
  usage_id: z.string(),
  usd,
  id: z.string().optional(),
  force: z.boolean().optional(),
});
const idParam = z.object({ id: z.string() });
const memberParams = z.object({ id: z.string(), user: z.string() });

/** Users, organizations, keys, credits, adjustments. All need `admin`. */
export const accountRoutes: ServerPlugin = (app, services) => {
  const { ledger } = services;
  app.addHook('onRequest', services.requireScope('admin'));

  app.post('/api/users', async (request, reply) => {
    reply.code(201);
    return createUser(ledger.pool, parseInput(newUser, request.body));
  });
  app.post('/api/organizations', async (request, reply) => {
    reply.code(201);
    return createOrganization(ledger.pool, parseInput(newOrganization, request.body));
  });
  app.post('/api/organizations/:id/members', async (request, reply) => {
    const { id } = parseInput(idParam, request.params);
    const member = parseInput(newMember, request.body);
    reply.code(201);
    return addOrganizationMember(ledger.pool, id, member.kilo_user_id, member.role);
  });
  app.patch('/api/organizations/:id/members/:user', async (request) => {
    const { id, user } = parseInput(memberParams, request.params);
    return setMemberRole(ledger.pool, id, user, parseInput(newRole, request.body).role);
  });
  app.delete('/api/organizations/:id/members/:user', async (request) => {
    const { id, user } = parseInput(memberParams, request.params);
    await removeOrganizationMember(ledger.pool, id, user);
    return { organization_id: id, kilo_user_id: user, removed: true };
  });
  app.get('/api/keys', async () => ({ keys: await listApiKeys(ledger.pool) }));
  app.post('/api/keys', async (request, reply) => {
    reply.code(201);
    return createApiKey(ledger.pool, parseInput(newKey, request.body));
  });
  app.delete('/api/keys/:id', async (request) =>
    revokeApiKey(ledger.pool, parseInput(idParam, request.params).id),
  );
  app.get('/api/credits', async (request) => {
    const { rows, ...page } = await listPayerCredits(
      ledger.pool,
      parseInput(creditPayer, request.query),
    );
    return { credits: rows, ...page };
  });
  app.post('/api/credits', async (request, reply) => {
    reply.code(201);
    return addCredit(ledger.pool, parseInput(newCredit, request.body));
  });
  app.post('/api/adjustments', async (request, reply) => {
    const { usage_id, usd: amount, ...options } = parseInput(newAdjustment, request.body);
    reply.code(201);
    return adjustUsage(ledger, usage_id, amount, options);
  });
};
