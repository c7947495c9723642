import { findNamedKeys } from '../accounts/apiKeys.js';
import { readText } from '../accounts/fields.js';
import { noOwner } from '../accounts/memberships.js';
import type { Scope } from '../accounts/scopes.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { isUuid } from '../ids.js';
import type { Ledger } from '../ledgerTypes.js';
import { findMemberships, isOrganizationMember, readRole } from '../shards/memberships.js';
import { groupByPart, isSharded } from '../shards/parts.js';
import type { Principal } from './auth.js';
import { type BegunRow, begunIdsStatement } from './queries/begunIds.sql.js';
import { meteredIdsStatement } from './queries/meteredIds.sql.js';
import { readRows } from './queries/rows.js';

/**
 * Whose data a read is about. A user's key reads that user alone; service and admin keys name one.
 * @throws LedgerError `forbidden`, `invalid_request`
 */
export function resolveUser(
  principal: Principal,
  kiloUserId: string | undefined,
  field: 'kiloUserId' | 'kilo_user_id' = 'kiloUserId',
): string {
  if (kiloUserId === undefined) {
    if (principal.kiloUserId !== null) return principal.kiloUserId;
    throw new LedgerError(
      'invalid_request',
      `this key acts for no user; name one with ${field} in the input`,
      { details: { field } },
    );
  }
  if (kiloUserId === principal.kiloUserId) return kiloUserId;
  if (principal.kiloUserId !== null && !principal.scopes.has('admin')) {
    throw new LedgerError('forbidden', "another user's data is out of reach of this key", {
      details: { field },
    });
  }
  return readText(field, kiloUserId);
}

/**
 * Which organization's usage may be read (null = personal): by a user as its member, own events
 * only; by a service key that is limited to one, that one alone.
 * @throws LedgerError `forbidden`
 */
export async function checkOrganizationRead(
  ledger: Ledger,
  principal: Principal,
  organizationId: string | null,
): Promise<void> {
  if (principal.kiloUserId === null) {
    checkServiceOrganization(principal, organizationId);
    return;
  }
  if (organizationId === null || principal.scopes.has('admin')) return;
  if (await isOrganizationMember(ledger, organizationId, principal.kiloUserId)) return;
  throw notMember('organizationId');
}

export type EventAccess = (event: unknown) => LedgerError | null;

/**
 * Which of these events the key may write; what is malformed is left to the ledger to refuse.
 * Compares the values as sent: the ledger's cleaning (NUL bytes) never turns a value that equals
 * the key's user into another one.
 * @param isNew money is to be held: of an organization by its members alone
 */
export async function createEventAccess(
  ledger: Ledger,
  principal: Principal,
  events: readonly unknown[],
  { isNew = false }: { isNew?: boolean } = {},
): Promise<EventAccess> {
  const userId = principal.kiloUserId;
  if (userId === null) return await createServiceAccess(ledger, principal, events);
  const organizationIds = new Set<string>();
  for (const event of events) {
    const organizationId = organizationOf(event);
    if (organizationId !== null) organizationIds.add(organizationId);
  }
  const [memberships, metered] = await Promise.all([
    organizationIds.size === 0 ? null : findMemberships(ledger, userId, organizationIds),
    findMetered(ledger, events),
  ]);
  const isStranger = (event: unknown) =>
    memberships?.get(organizationOf(event) ?? '') === 'stranger';
  const isBegun = await findBegun(ledger, principal, isNew ? [] : events.filter(isStranger));
  return (event) => {
    const eventUser = fieldOf(event, 'kilo_user_id');
    if (typeof eventUser === 'string' && eventUser !== userId) {
      return new LedgerError('forbidden', 'this key writes for its own user alone', {
        details: { field: 'kilo_user_id' },
      });
    }
    const correction = principal.scopes.has('admin') ? null : correctionIn(event);
    if (correction !== null) return correction;
    const eventKey = fieldOf(event, 'api_key_id') ?? null;
    if (typeof eventKey === 'string' && eventKey.toLowerCase() !== principal.keyId) {
      return new LedgerError(
        'forbidden',
        'api_key_id must be the key in use, or absent; a service key may name another',
        { details: { field: 'api_key_id' } },
      );
    }
    const id = uuidOf(event, 'id');
    if (id !== null && metered.failure !== null) return metered.failure;
    if (id !== null && metered.ids.has(id)) {
      return new LedgerError('forbidden', 'the gateway meters the request of this id itself', {
        details: { field: 'id' },
      });
    }
    const organizationId = organizationOf(event);
    const standing = organizationId === null ? undefined : memberships?.get(organizationId);
    if (standing instanceof LedgerError) return standing;
    // What they held before they left has happened since.
    return isStranger(event) && !isBegun(event) ? notMember('organization_id') : null;
  };
}

/**
 * Which of these requests the key in use began while its user was a member of the organization that pays: to
 * be given back, or settled with at most what is held.
 */
async function findBegun(
  ledger: Ledger,
  { kiloUserId, keyId }: Principal,
  events: readonly unknown[],
): Promise<(event: unknown) => boolean> {
  const named = events.flatMap((event) => {
    const organization_id = organizationOf(event);
    const id = uuidOf(event, 'id');
    return organization_id !== null && id !== null ? [{ id, organization_id }] : [];
  });
  if (named.length === 0 || kiloUserId === null || !isUuid(keyId)) return () => false;
  const { byPart } = await groupByPart(ledger, named, (each) => each);
  const rows = await Promise.all(
    [...byPart].map(([{ pool }, asked]) =>
      readRows<BegunRow>(pool, begunIdsStatement(kiloUserId, keyId, asked)),
    ),
  );
  const most = new Map(rows.flat().map((row) => [`${row.organization_id} ${row.id}`, row.most]));
  return (event) => {
    const held = most.get(`${organizationOf(event)} ${uuidOf(event, 'id')}`);
    if (held === undefined) return false;
    const cost = fieldOf(event, 'cost') ?? 0;
    return held === null || (typeof cost === 'number' && cost <= Number(held));
  };
}

/**
 * A service key that is limited to an organization names keys that pay for it, and of its members those that
 * pay for themselves, with their own requests: the budgets of others are not its to spend, nor are the names
 * of their keys its to read. What names no key there counts in no budget. What a member held before they left
 * is settled all the same, and sent again a duplicate. One statement, or none.
 */
async function createServiceAccess(
  ledger: Ledger,
  principal: Principal,
  events: readonly unknown[],
): Promise<EventAccess> {
  const { organizationId } = principal;
  if (organizationId === null) return () => null;
  const told = (field: string) =>
    [...new Set(events.map((event) => uuidOf(event, field)))].filter(isUuid);
  const ids = told('api_key_id').filter((id) => id !== principal.keyId);
  const eventIds = told('id');
  const named =
    ids.length === 0
      ? []
      : await ledger.ask({ organization_id: organizationId }, ({ pool }) =>
          findNamedKeys(pool, organizationId, { ids, eventIds }),
        );
  const keys = new Map(named.map((key) => [key.id, key]));
  return (event) =>
    refusalOf(() => {
      checkServiceOrganization(principal, organizationOf(event), 'organization_id');
      const key = keys.get(uuidOf(event, 'api_key_id') ?? '');
      if (key === undefined || key.organization_id === organizationId) return;
      const mayPay = key.is_member || key.begun_ids.includes(uuidOf(event, 'id') ?? '');
      const isOwn = mayPay && key.kilo_user_id === fieldOf(event, 'kilo_user_id');
      if (key.organization_id === null && isOwn) return;
      throw new LedgerError(
        'forbidden',
        "api_key_id names neither a key of this key's organization nor the member's own; without it the " +
          'request is recorded under the key in use',
        { details: { field: 'api_key_id' } },
      );
    });
}

/** Else whoever holds a key could write themselves money, or keep a request from being priced late. */
function correctionIn(event: unknown): LedgerError | null {
  const cost = fieldOf(event, 'cost');
  if (typeof cost === 'number' && cost < 0) {
    return new LedgerError(
      'forbidden',
      "cost must not be negative with a user's key; `adjust` and service keys refund",
      { details: { field: 'cost' } },
    );
  }
  const corrected = fieldOf(fieldOf(event, 'metadata'), 'adjusts_usage_id') ?? null;
  if (corrected === null) return null;
  return new LedgerError(
    'forbidden',
    "a user's key corrects no request; `adjust` and service keys do",
    { details: { field: 'metadata.adjusts_usage_id' } },
  );
}

/** Ids of requests in flight. */
interface Metered {
  ids: ReadonlySet<string>;
  /** Why they cannot all be told: home is away. */
  failure: LedgerError | null;
}

/**
 * A client that knows the id of its request in flight could else say what it costs. The gateway keeps its
 * intents on home, holds are where their payer is; of another shard that is away nothing is asked: it refuses
 * the event itself.
 */
async function findMetered(ledger: Ledger, events: readonly unknown[]): Promise<Metered> {
  const named = events.flatMap((event) => {
    const id = uuidOf(event, 'id');
    if (id === null) return [];
    const user = fieldOf(event, 'kilo_user_id');
    const kilo_user_id = typeof user === 'string' ? user : '';
    return [{ id, organization_id: organizationOf(event), kilo_user_id }];
  });
  if (named.length === 0) return { ids: new Set(), failure: null };
  const ask = async ({ pool }: Ledger, asked: readonly { id: string }[]) =>
    readRows<{ id: string }>(pool, meteredIdsStatement(asked.map(({ id }) => id)));
  const { byPart } = await groupByPart(ledger, named, (each) => each);
  const [home] = ledger.parts;
  let failure: LedgerError | null = null;
  if (home !== undefined) byPart.set(home.ledger, named);
  const rows = await Promise.all(
    [...byPart].map(async ([part, asked]) => {
      try {
        return await ask(part, asked);
      } catch (error) {
        if (!isSharded(ledger)) throw error;
        if (part === home?.ledger) failure = toLedgerError(error);
        return [];
      }
    }),
  );
  return { ids: new Set(rows.flat().map(({ id }) => id)), failure };
}

/**
 * Asked of the primary each time. A service key reads what it is limited to.
 * @param what an owner does, as in "only an owner of the organization reads its keys"
 * @throws LedgerError `forbidden`
 */
export async function checkOwner(
  ledger: Ledger,
  principal: Principal,
  organizationId: string,
  what: string,
): Promise<void> {
  if (principal.kiloUserId === null) {
    checkServiceOrganization(principal, organizationId);
    return;
  }
  if (principal.scopes.has('admin')) return;
  if ((await readRole(ledger, organizationId, principal.kiloUserId)) !== 'owner')
    throw noOwner(what);
}

/**
 * A key gives and takes no more than it has; `admin` is given and taken by service keys and commands alone.
 * @throws LedgerError `forbidden`
 */
export function checkNoMore(principal: Principal, scopes: readonly Scope[]): void {
  if (principal.kiloUserId === null && principal.scopes.has('admin')) return;
  const beyond = scopes.find((scope) => scope === 'admin' || !principal.scopes.has(scope));
  if (beyond === undefined) return;
  throw new LedgerError(
    'forbidden',
    `the key in use cannot give or take the scope ${beyond}; sign in with one that has it`,
    { details: { field: 'scopes', scope: beyond } },
  );
}

/**
 * A key to read with changes nothing of what may be spent.
 * @throws LedgerError `forbidden`
 */
export function checkActs({ scopes }: Principal): void {
  if (scopes.has('admin') || scopes.has('usage:write') || scopes.has('gateway')) return;
  throw new LedgerError(
    'forbidden',
    'the key in use only reads; sign in with one that has usage:write or gateway',
    { details: { field: 'scopes' } },
  );
}

/**
 * What a service key that is limited to an organization reads; a user's key reads what the user may, whoever
 * pays for what it passes.
 * @throws LedgerError `forbidden`
 */
export function checkServiceRead(
  principal: Principal,
  organizationId: string | null,
  field?: string,
): void {
  if (principal.kiloUserId === null) checkServiceOrganization(principal, organizationId, field);
}

export function checkServiceOrganization(
  principal: Principal,
  organizationId: string | null,
  field = 'organizationId',
): void {
  if (principal.organizationId === null || principal.organizationId === organizationId) return;
  throw new LedgerError('forbidden', 'this key is limited to another organization', {
    details: { field },
  });
}

function organizationOf(event: unknown): string | null {
  return uuidOf(event, 'organization_id');
}

/** As the ledger writes it; null for what is none, which its rule refuses later. */
function uuidOf(event: unknown, field: string): string | null {
  const value = fieldOf(event, field);
  return isUuid(value) ? value.toLowerCase() : null;
}

function fieldOf(event: unknown, field: string): unknown {
  if (typeof event !== 'object' || event === null) return undefined;
  return (event as Record<string, unknown>)[field];
}

function notMember(field: string): LedgerError {
  return new LedgerError('forbidden', 'the user is not a member of this organization', {
    details: { field },
  });
}

function refusalOf(check: () => void): LedgerError | null {
  try {
    check();
    return null;
  } catch (error) {
    if (error instanceof LedgerError) return error;
    throw error;
  }
}
