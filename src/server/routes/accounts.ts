import { z } from 'zod';
import { adjustUsage } from '../../accounts/adjust.js';
import { revokeApiKey } from '../../accounts/apiKeys.js';
import { ROLES, removeOrganizationMember, setMemberRole } from '../../accounts/memberships.js';
import { SCOPES } from '../../accounts/scopes.js';
import {
  addCredit,
  addMember,
  createKey,
  createOrganization,
  createUser,
  listPayerCredits,
} from '../../shards/accounts.js';
import { atRow } from '../../shards/atRow.js';
import { listApiKeys } from '../../shards/lists.js';
import type { ServerPlugin } from '../plugins.js';
import { optionalText, parseBody, parseInput, usd } from '../validation.js';

// Fields and types only; what a value may be is checked where it is stored (src/accounts). What the
// descriptions say is in the API reference (src/server/openapi).
const user = z.string().meta({ minLength: 1, maxLength: 256 });
const role = z.string().meta({ enum: [...ROLES] });
export const newUser = z.strictObject({
  id: user.describe('Of your choice.'),
  email: optionalText,
  name: optionalText,
  kilo_pass_threshold: z.number().nullish().describe('Microdollars.'),
});
export const newOrganization = z.strictObject({
  name: z.string(),
  id: optionalText.meta({ format: 'uuid', description: 'Made when absent.' }),
});
export const newMember = z.strictObject({
  kilo_user_id: user,
  role: role.optional().describe('Default `member`.'),
});
export const newRole = z.strictObject({ role });
export const newKey = z.strictObject({
  name: optionalText.meta({ maxLength: 100, description: 'What its maker calls it.' }),
  kilo_user_id: optionalText.describe('The user it acts for; absent: a service key.'),
  organization_id: optionalText.meta({
    format: 'uuid',
    description:
      "Of a user's key: the payer of its gateway traffic. Of a service key: the only " +
      'organization it may act for.',
  }),
  scopes: z.array(z.string().meta({ enum: [...SCOPES] })).meta({ minItems: 1 }),
});
export const newCredit = z.strictObject({
  id: optionalText.meta({
    format: 'uuid',
    description: 'Idempotency key: the same again is a `duplicate` and moves nothing.',
  }),
  kilo_user_id: optionalText.describe('Exactly one of user and organization.'),
  organization_id: optionalText.meta({ format: 'uuid' }),
  usd: usd.describe('USD, rounded once to the microdollar; negative takes back.'),
  description: optionalText,
  note: optionalText.describe('The same as `description`.'),
  expires_at: optionalText.meta({
    format: 'date-time',
    description: 'In the future: what is left of it then leaves the balance. Default: never.',
  }),
  priority: z.number().nullish().meta({
    minimum: -1_000,
    maximum: 1_000,
    description: 'Of grants that expire together the lower is used first. Default 0.',
  }),
});
export const creditPayer = z.strictObject({
  kilo_user_id: z.string().optional().describe('Exactly one of user and organization.'),
  organization_id: z.string().optional().meta({ format: 'uuid' }),
});
export const newAdjustment = z.strictObject({
  usage_id: z.string().meta({ format: 'uuid', description: 'The usage row to correct.' }),
  usd: usd.describe('USD; negative refunds.'),
  id: z.string().optional().meta({
    format: 'uuid',
    description: 'Idempotency key. Default: made of the usage row and the amount.',
  }),
  force: z.boolean().optional().describe('Refund more than the request cost.'),
});
const id = z.string().meta({ format: 'uuid' });
export const idParam = z.object({ id });
export const memberParams = z.object({ id, user });

/** Users, organizations, keys, credits, adjustments. All need `admin`. */
export const accountRoutes: ServerPlugin = (app, services) => {
  const { ledger } = services;
  app.addHook('onRequest', services.requireScope('admin'));

  app.post('/api/users', async (request, reply) => {
    reply.code(201);
    return createUser(ledger, parseBody(newUser, request.body));
  });
  app.post('/api/organizations', async (request, reply) => {
    reply.code(201);
    return createOrganization(ledger, parseBody(newOrganization, request.body));
  });
  app.post('/api/organizations/:id/members', async (request, reply) => {
    const { id } = parseInput(idParam, request.params);
    const member = parseBody(newMember, request.body);
    reply.code(201);
    return addMember(ledger, id, member.kilo_user_id, member.role);
  });
  app.patch('/api/organizations/:id/members/:user', async (request) => {
    const { id, user } = parseInput(memberParams, request.params);
    const { role } = parseBody(newRole, request.body);
    return ledger.at({ organization_id: id }, ({ pool }) => setMemberRole(pool, id, user, role));
  });
  app.delete('/api/organizations/:id/members/:user', async (request) => {
    const { id, user } = parseInput(memberParams, request.params);
    await ledger.at({ organization_id: id }, ({ pool }) =>
      removeOrganizationMember(pool, id, user),
    );
    return { organization_id: id, kilo_user_id: user, removed: true };
  });
  app.get('/api/keys', async () => ({ keys: await listApiKeys(ledger) }));
  app.post('/api/keys', async (request, reply) => {
    reply.code(201);
    return createKey(ledger, parseBody(newKey, request.body));
  });
  app.delete('/api/keys/:id', async (request) => {
    const { id } = parseInput(idParam, request.params);
    return atRow(ledger, 'api_keys', id, ({ pool }) => revokeApiKey(pool, id));
  });
  app.get('/api/credits', async (request) => {
    const { rows, ...page } = await listPayerCredits(
      ledger,
      parseInput(creditPayer, request.query),
    );
    return { credits: rows, ...page };
  });
  app.post('/api/credits', async (request, reply) => {
    reply.code(201);
    return addCredit(ledger, parseBody(newCredit, request.body));
  });
  app.post('/api/adjustments', async (request, reply) => {
    const { usage_id, usd: amount, ...options } = parseBody(newAdjustment, request.body);
    reply.code(201);
    return atRow(ledger, 'microdollar_usage', usage_id, (part) =>
      adjustUsage(part, usage_id, amount, options),
    );
  });
};
