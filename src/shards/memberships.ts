import {
  findMemberships as findHere,
  isOrganizationOwner as isOwnerHere,
  listMemberships as listHere,
  type Membership,
  readRole as readRoleHere,
} from '../accounts/memberships.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { isUuid } from '../ids.js';
import type { Ledger } from '../ledgerTypes.js';
import { askOfUser } from './askOfUser.js';
import { mapBounded } from './mapBounded.js';
import { groupByPart, isSharded } from './parts.js';
import { MAX_AT_ONCE } from './scatter.js';

/**
 * The user's standing in each organization, by lower-case id; of a shard that is away why it cannot be
 * told.
 */
export type Standings = Map<string, Membership | LedgerError>;

/** The user's standing in each organization, on whatever shard it is. */
export async function findMemberships(
  ledger: Ledger,
  kiloUserId: string,
  organizationIds: Iterable<string>,
): Promise<Standings> {
  if (!isSharded(ledger)) return await findHere(ledger.pool, kiloUserId, organizationIds);
  const standings: Standings = new Map();
  const ids = [...new Set([...organizationIds].map((id) => id.toLowerCase()))];
  const payerOf = (id: string) => ({ organization_id: id });
  const { byPart, away } = await groupByPart(ledger, ids, payerOf);
  for (const { item, error } of away) standings.set(item, error);
  const ask = async (asked: readonly string[], find: () => Promise<Standings>) => {
    try {
      for (const [id, standing] of await find()) standings.set(id, standing);
    } catch (error) {
      for (const id of asked) standings.set(id, toLedgerError(error));
    }
  };
  await mapBounded([...byPart], MAX_AT_ONCE, ([part, asked]) =>
    ask(asked, () => findHere(part.pool, kiloUserId, asked)),
  );
  // Unknown where the directory of this process has them: they may have moved.
  const unknown = ids.filter((id) => standings.get(id) === 'unknown' && isUuid(id));
  await mapBounded(unknown, MAX_AT_ONCE, (id) =>
    ask([id], () => ledger.ask(payerOf(id), ({ pool }) => findHere(pool, kiloUserId, [id]))),
  );
  return standings;
}

/** @throws LedgerError `unavailable` */
export async function isOrganizationMember(
  ledger: Ledger,
  organizationId: string,
  kiloUserId: string,
): Promise<boolean> {
  const standings = await findMemberships(ledger, kiloUserId, [organizationId]);
  const standing = standings.get(organizationId.toLowerCase());
  if (standing instanceof LedgerError) throw standing;
  return standing === 'member';
}

/** The user's role in the organization, null for none. Asked anew each time. */
export const readRole = (
  ledger: Ledger,
  organizationId: string,
  kiloUserId: string,
): Promise<string | null> =>
  ledger.ask({ organization_id: organizationId }, ({ pool }) =>
    readRoleHere(pool, organizationId, kiloUserId),
  );

/** Asked of the database each time: it decides on money. */
export const isOrganizationOwner = (
  ledger: Ledger,
  organizationId: string,
  kiloUserId: string,
): Promise<boolean> =>
  ledger.ask({ organization_id: organizationId }, ({ pool }) =>
    isOwnerHere(pool, organizationId, kiloUserId),
  );

/**
 * Every organization of a user, on all shards: memberships are where their organization is. Asked anew each
 * time.
 * @throws LedgerError `unavailable` naming a shard that is away: the user may have others there
 */
export async function listMemberships(
  ledger: Ledger,
  kiloUserId: string,
): Promise<{ organization_id: string; role: string }[]> {
  const found = await askOfUser(ledger, kiloUserId, ({ pool }) => listHere(pool, kiloUserId));
  // Of one that moves at this moment both shards may tell.
  return [...new Map(found.flat().map((each) => [each.organization_id, each])).values()];
}
