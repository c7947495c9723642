import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import * as keys from '../accounts/apiKeys.js';
import * as credits from '../accounts/credits.js';
import * as listed from '../accounts/listCredits.js';
import type { ChangedBy } from '../accounts/memberships.js';
import type { NewCredit } from '../accounts/newCredit.js';
import * as organizations from '../accounts/organizations.js';
import * as deletion from '../accounts/softDelete.js';
import * as users from '../accounts/users.js';
import { isElsewhere, LedgerError } from '../errors.js';
import type { NamedPayer } from '../ledgerTypes.js';
import { introduceUser } from './introduce.js';
import { bucketOf, keyOfPayer } from './placement.js';

/**
 * Where accounts are kept: the pool of an ordinary ledger, or a ledger, of shards or not. Of shards each
 * account is made, and changed, where its payer is.
 */
export type Accounts = pg.Pool | Parts;

interface Part {
  pool: pg.Pool;
}

interface Parts {
  at<T>(payer: NamedPayer, run: (ledger: Part) => Promise<T>): Promise<T>;
  readonly parts: readonly { readonly name: string | null; readonly ledger: Part }[];
}

/** Of an ordinary ledger. */
export const isPool = (accounts: Accounts): accounts is pg.Pool => !('parts' in accounts);
/** A ledger that is no shard has no buckets. */
const isSharded = ({ parts }: Parts): boolean => parts.some(({ name }) => name !== null);

/** Whoever names no payer, or one that cannot be read, is refused by any of them. */
function onPayer<T>(
  accounts: Accounts,
  payer: NamedPayer,
  run: (pool: pg.Pool) => Promise<T>,
): Promise<T> {
  if (isPool(accounts)) return run(accounts);
  const { kilo_user_id: user, organization_id: organization } = payer;
  const named = organization ?? user;
  if (typeof named !== 'string' || named === '') return run(homeOf(accounts).pool);
  return accounts.at(payer, ({ pool }: Part) => run(pool));
}

function homeOf({ parts }: Parts): Part {
  const [home] = parts;
  if (home === undefined) throw new LedgerError('internal', 'a ledger has a part');
  return home.ledger;
}

/** In an organization, with a user of whatever shard. */
async function withUser<T>(
  accounts: Accounts,
  organizationId: string,
  kiloUserId: string,
  run: (pool: pg.Pool) => Promise<T>,
): Promise<T> {
  const payer = { organization_id: organizationId };
  try {
    return await onPayer(accounts, payer, run);
  } catch (error) {
    const isStranger =
      error instanceof LedgerError && error.code === 'unknown_user' && !isElsewhere(error);
    if (!isStranger || isPool(accounts) || !isSharded(accounts)) throw error;
    await accounts.at(payer, (ledger: Part) => introduceUser(accounts, kiloUserId, ledger));
    return await onPayer(accounts, payer, run);
  }
}

/** @throws LedgerError `invalid_request`, `already_exists` (also for a soft-deleted user's id) */
export function createUser(accounts: Accounts, user: users.NewUser): Promise<users.User> {
  const payer = { kilo_user_id: user.id };
  return onPayer(accounts, payer, (pool) =>
    users.createUser(pool, user, bucketIn(accounts, payer)),
  );
}

/** @throws LedgerError `invalid_request`, `already_exists` */
export function createOrganization(
  accounts: Accounts,
  organization: organizations.NewOrganization,
): Promise<organizations.Organization> {
  // Its id decides where it is.
  const id = organization.id ?? randomUUID();
  const payer = { organization_id: id };
  return onPayer(accounts, payer, (pool) =>
    organizations.createOrganization(pool, { ...organization, id }, bucketIn(accounts, payer)),
  );
}

function bucketIn(accounts: Accounts, payer: NamedPayer): number | null {
  return isPool(accounts) || !isSharded(accounts) ? null : bucketOf(keyOfPayer(payer));
}

/**
 * @throws LedgerError `unknown_user` (also for a soft-deleted one), `unknown_organization`,
 *   `already_exists`, `forbidden`, `invalid_request` for a role that is none
 */
export function addMember(
  accounts: Accounts,
  organizationId: string,
  kiloUserId: string,
  role?: string,
  changedBy?: ChangedBy,
): Promise<organizations.OrganizationMember> {
  return withUser(accounts, organizationId, kiloUserId, (pool) =>
    organizations.addOrganizationMember(pool, organizationId, kiloUserId, role, changedBy),
  );
}

/**
 * Top-up of a user or an organization: a grant (docs/adr/0011-credit-grants.md). The same id with the
 * same payer, amount, expiry and priority again adds nothing, also after it has expired.
 * @throws LedgerError `invalid_request` naming the field, `unknown_user` (also of a deleted one),
 *   `unknown_organization`, `idempotency_conflict`, `out_of_range`
 */
export function addCredit(accounts: Accounts, credit: NewCredit): Promise<credits.Credit> {
  return onPayer(accounts, credit, (pool) => credits.addCredit(pool, credit));
}

/**
 * Makes a key, on the shard of whoever it pays for; one of nobody on home. The answer is the only place where
 * the key itself is ever seen.
 * @throws LedgerError `invalid_request`, `unknown_user`, `unknown_organization`, `forbidden`,
 *   `already_exists` for an id that a key has
 */
export function createKey(
  accounts: Accounts,
  wanted: keys.NewApiKey,
): Promise<keys.ApiKey & { key: string }> {
  const { kilo_user_id: user, organization_id: organization } = wanted;
  const create = (pool: pg.Pool) => keys.createApiKey(pool, wanted);
  return user != null && organization != null
    ? withUser(accounts, organization, user, create)
    : onPayer(accounts, wanted, create);
}

/**
 * Soft-deletes a user (I11) wherever they are known: where their own usage is first, then where they act for
 * organizations. Idempotent: after `unavailable` the same again takes up what is left.
 * @throws LedgerError `unknown_user`, `unavailable`
 */
export async function softDeleteUser(
  accounts: Accounts,
  kiloUserId: string,
): Promise<{ scrubbedEvents: number; isFinal: boolean }> {
  const remove = (pool: pg.Pool) => deletion.softDeleteUser(pool, kiloUserId);
  if (isPool(accounts) || !isSharded(accounts)) {
    return await onPayer(accounts, { kilo_user_id: kiloUserId }, remove);
  }
  let ownPool: pg.Pool | undefined;
  const own = await onPayer(accounts, { kilo_user_id: kiloUserId }, (pool) => {
    ownPool = pool;
    return remove(pool);
  });
  const others = accounts.parts.filter(({ ledger }) => ledger.pool !== ownPool);
  const first = await Promise.all(others.map(({ ledger }) => ifKnown(() => remove(ledger.pool))));
  // Once more where they were unknown: rows of theirs may have come with an organization that moves, read
  // where it was before this reached it.
  const elsewhere = await Promise.all(
    others.map(
      async ({ ledger }, index) => first[index] ?? (await ifKnown(() => remove(ledger.pool))),
    ),
  ).then((removed) => removed.filter((each) => each !== null));
  return {
    scrubbedEvents: elsewhere.reduce((sum, each) => sum + each.scrubbedEvents, own.scrubbedEvents),
    isFinal: own.isFinal && elsewhere.every(({ isFinal }) => isFinal),
  };
}

async function ifKnown(
  remove: () => Promise<{ scrubbedEvents: number; isFinal: boolean }>,
): Promise<{ scrubbedEvents: number; isFinal: boolean } | null> {
  try {
    return await remove();
  } catch (error) {
    const isUnknown = error instanceof LedgerError && error.code === 'unknown_user';
    if (isUnknown) return null;
    throw error;
  }
}

/**
 * What a payer acquired, and what is left of it. @throws LedgerError `unknown_user`, `unknown_organization`
 */
export function listPayerCredits(
  accounts: Accounts,
  payer: NamedPayer,
): Promise<listed.PayerCredits> {
  return onPayer(accounts, payer, (pool) => listed.listPayerCredits(pool, payer));
}
