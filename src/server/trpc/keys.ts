import { z } from 'zod';
import {
  type ApiKey,
  findApiKey,
  renameApiKey,
  revokeApiKey,
  unknownKey,
} from '../../accounts/apiKeys.js';
import { SCOPES } from '../../accounts/scopes.js';
import type { Ledger } from '../../ledgerTypes.js';
import { createKey as makeKey } from '../../shards/accounts.js';
import { atRow } from '../../shards/atRow.js';
import { listKeysOf } from '../../shards/lists.js';
import { readRole } from '../../shards/memberships.js';
import {
  checkNoMore,
  checkOwner,
  checkServiceOrganization,
  checkServiceRead,
  resolveUser,
} from '../access.js';
import type { Principal } from '../auth.js';
import { inputOf, inputOrNothing, uuid } from '../validation.js';
import type { TrpcContext } from './context.js';
import { procedureFor, router } from './procedure.js';

/** Of one list; of more, the newest usable ones. */
const MAX_KEYS = 500;
const name = z.string().max(100).nullish();

const listInput = z.strictObject({
  kilo_user_id: z.string().nullish(),
  /** Instead: keys that pay for it. For its owners. */
  organization_id: uuid.nullish(),
});

const listKeys = procedureFor(
  'usage:read',
  'Keys of a user, or of an organization for its owner; never the secrets.',
)
  .input(inputOrNothing(listInput))
  .query(async ({ ctx, input }) => {
    const { ledger } = ctx;
    if (input.organization_id == null) {
      checkServiceRead(ctx.principal, null);
      const kiloUserId = resolveUser(
        ctx.principal,
        input.kilo_user_id ?? undefined,
        'kilo_user_id',
      );
      return { keys: await listKeysOf(ledger, { kiloUserId }, MAX_KEYS) };
    }
    await checkOwner(ledger, ctx.principal, input.organization_id, 'reads its keys');
    return { keys: await listKeysOf(ledger, { organizationId: input.organization_id }, MAX_KEYS) };
  });

const createInput = z.strictObject({
  kilo_user_id: z.string().nullish(),
  /** Pays for what the gateway passes; the user must be its member. */
  organization_id: uuid.nullish(),
  name,
  scopes: z.array(z.enum(SCOPES)).min(1),
});

const createKey = procedureFor(
  'usage:read',
  'A key for the own user, with no more scopes than the one in use. The answer is the ' +
    'only place where the key itself is ever seen.',
)
  .input(inputOf(createInput))
  .mutation(async ({ ctx, input }) => {
    const kiloUserId = resolveUser(ctx.principal, input.kilo_user_id ?? undefined, 'kilo_user_id');
    checkServiceOrganization(ctx.principal, input.organization_id ?? null);
    checkNoMore(ctx.principal, input.scopes);
    const created = await makeKey(ctx.ledger, {
      kilo_user_id: kiloUserId,
      organization_id: input.organization_id ?? null,
      name: input.name?.trim() || null,
      scopes: input.scopes,
    });
    ctx.request.log.info({ keyId: ctx.principal.keyId, createdKeyId: created.id }, 'key created');
    return created;
  });

const renameInput = z.strictObject({ id: uuid, name });
const revokeInput = z.strictObject({ id: uuid });

const renameKey = procedureFor(
  'usage:read',
  'Names a key: of the own user, or one that pays for an organization they own.',
)
  .input(inputOf(renameInput))
  .mutation(({ ctx, input }) =>
    atOwn(ctx, ctx.principal, input.id, ({ pool }) =>
      renameApiKey(pool, input.id, input.name?.trim() || null),
    ),
  );

const revokeKey = procedureFor(
  'usage:read',
  'Revokes a key for good, as `keys.rename`; again is fine.',
)
  .input(inputOf(revokeInput))
  .mutation(async ({ ctx, input }) => {
    const revoked = await atOwn(ctx, ctx.principal, input.id, ({ pool }) =>
      revokeApiKey(pool, input.id),
    );
    ctx.request.log.info({ keyId: ctx.principal.keyId, revokedKeyId: revoked.id }, 'key revoked');
    return revoked;
  });

/**
 * Work on a key that the asker may change: of the own user, or one that pays for an organization they own;
 * not one that may do more than the key in use.
 * @throws LedgerError `not_found`, also for keys of others; `forbidden`
 */
function atOwn<T>(
  ctx: TrpcContext,
  principal: Principal,
  id: string,
  run: (part: Ledger) => Promise<T>,
): Promise<T> {
  return atRow(ctx.ledger, 'api_keys', id, async (part) => {
    const key = await findApiKey(part.pool, id);
    if (!(await isOwn(ctx, principal, key))) throw unknownKey();
    checkNoMore(principal, key.scopes);
    return run(part);
  });
}

async function isOwn(ctx: TrpcContext, principal: Principal, key: ApiKey): Promise<boolean> {
  if (principal.scopes.has('admin')) return true;
  if (principal.kiloUserId === null) return false;
  if (key.kilo_user_id === principal.kiloUserId) return true;
  if (key.organization_id === null) return false;
  return (await readRole(ctx.ledger, key.organization_id, principal.kiloUserId)) === 'owner';
}

/** For the page: keys are made, named, limited in scope and revoked there. */
export const keysRouter = router({
  list: listKeys,
  create: createKey,
  rename: renameKey,
  revoke: revokeKey,
});
