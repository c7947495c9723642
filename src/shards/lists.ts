import * as keys from '../accounts/apiKeys.js';
import * as alerts from '../alerts/alerts.js';
import * as deliveries from '../alerts/deliveries.js';
import * as webhooks from '../alerts/webhooks.js';
import * as budgets from '../budgets/budgets.js';
import type { Ledger, NamedPayer } from '../ledgerTypes.js';
import { askOfUser } from './askOfUser.js';
import { askParts, isSharded } from './parts.js';

type Payer = budgets.BudgetPayer;
type Key = keys.ApiKey;

const namesOf = ({ scope, id }: Payer): NamedPayer =>
  scope === 'user' ? { kilo_user_id: id } : { organization_id: id };

/**
 * Lists of one payer from its part; of everybody from all of them, as one, in the order and of the length
 * that each has by itself. With a shard away they are refused: a list that lacks some looks like one that
 * is whole.
 */
async function listOf<Row>(
  ledger: Ledger,
  payer: Payer | null,
  list: (part: Ledger) => Promise<Row[]>,
  { idOf, compare, limit }: Merging<Row>,
): Promise<Row[]> {
  if (payer !== null) return await ledger.ask(namesOf(payer), list);
  const lists = await askParts(ledger, list);
  if (!isSharded(ledger)) return lists.flat();
  return mergeLists(lists, { idOf, compare, limit });
}

interface Merging<Row> {
  /** Of a payer that moves at this moment two parts may have a row. */
  idOf: (row: Row) => string;
  compare: (a: Row, b: Row) => number;
  limit: number;
}

function mergeLists<Row>(
  lists: readonly (readonly Row[])[],
  { idOf, compare, limit }: Merging<Row>,
): Row[] {
  const byId = new Map(lists.flat().map((row) => [idOf(row), row]));
  return [...byId.values()].sort(compare).slice(0, limit);
}

interface Dated {
  created_at: string;
}
const oldestFirst = (a: Dated, b: Dated): number =>
  a.created_at < b.created_at ? -1 : Number(a.created_at > b.created_at);
const newestFirst = (a: Dated, b: Dated): number => oldestFirst(b, a);
const idOf = ({ id }: { id: string }): string => id;

/** As `src/alerts/alerts.ts` has them. @throws LedgerError `unavailable` */
export const listAlerts = (ledger: Ledger, payer: Payer | null): Promise<alerts.Alert[]> =>
  listOf<alerts.Alert>(ledger, payer, ({ pool }) => alerts.listAlerts(pool, payer), {
    idOf,
    compare: oldestFirst,
    limit: alerts.MAX_ALERTS_LISTED,
  });

/**
 * As `src/alerts/webhooks.ts` has them; those of everybody of each shard. @throws LedgerError
 * `unavailable`
 */
export const listWebhooks = (ledger: Ledger, payer: Payer | null): Promise<webhooks.Webhook[]> =>
  listOf<webhooks.Webhook>(ledger, payer, ({ pool }) => webhooks.listWebhooks(pool, payer), {
    idOf,
    compare: oldestFirst,
    limit: webhooks.MAX_WEBHOOKS_LISTED,
  });

/** As `src/alerts/deliveries.ts` has them. @throws LedgerError `invalid_request`, `unavailable` */
export const listDeliveries = (
  ledger: Ledger,
  query: deliveries.DeliveryQuery,
): Promise<deliveries.Delivery[]> =>
  listOf<deliveries.Delivery>(
    ledger,
    query.payer,
    ({ pool }) => deliveries.listDeliveries(pool, query),
    {
      idOf: (row) => `${row.event_id} ${row.id}`,
      compare: newestFirst,
      limit: query.limit ?? deliveries.DEFAULT_LIMIT,
    },
  );

/** Every key, as `src/accounts/apiKeys.ts` lists them. @throws LedgerError `unavailable` */
export const listApiKeys = (ledger: Ledger): Promise<Key[]> =>
  listOf<Key>(ledger, null, ({ pool }) => keys.listApiKeys(pool), {
    idOf,
    compare: newestFirst,
    limit: keys.MAX_KEYS_LISTED,
  });

/** Of a user wherever they pay; of an organization from its part. @throws LedgerError `unavailable` */
export async function listKeysOf(
  ledger: Ledger,
  of: { kiloUserId: string } | { organizationId: string },
  limit: number,
): Promise<Key[]> {
  const list = ({ pool }: Ledger) => keys.listKeysOf(pool, of, limit);
  if ('organizationId' in of) return await ledger.ask({ organization_id: of.organizationId }, list);
  const lists = await askOfUser(ledger, of.kiloUserId, list);
  if (!isSharded(ledger)) return lists.flat();
  const isRevoked = ({ revoked_at }: Key) => Number(revoked_at !== null);
  return mergeLists<Key>(lists, {
    idOf,
    compare: (a, b) => isRevoked(a) - isRevoked(b) || newestFirst(a, b),
    limit,
  });
}

type PayerBudgets = Awaited<ReturnType<typeof budgets.listPayersBudgets>>['payers'][number];

const keyOf = ({ scope, id }: Payer): string => `${scope}:${id}`;
/** As the database compares bytes. */
const compareBytes = (a: string, b: string): number =>
  Buffer.compare(Buffer.from(a), Buffer.from(b));
const comparePayers = (a: Payer, b: Payer): number =>
  compareBytes(a.scope, b.scope) || compareBytes(a.id, b.id);

/** A page of payers with their budgets, after `after`, of all parts in one order. */
export async function listPayersBudgets(
  ledger: Ledger,
  after: Payer | null,
  limit: number,
): Promise<{ payers: PayerBudgets[]; has_more: boolean }> {
  const pages = await askParts(ledger, ({ pool, budgetFolder: folder }) =>
    budgets.listPayersBudgets({ pool, folder }, after, limit),
  );
  const [only] = pages;
  if (only !== undefined && pages.length === 1) return only;
  const lists = pages.map(({ payers }) => payers);
  const merged = mergeLists<PayerBudgets>(lists, {
    idOf: keyOf,
    compare: comparePayers,
    limit: limit + 1,
  });
  return {
    payers: merged.slice(0, limit),
    has_more: merged.length > limit || pages.some(({ has_more }) => has_more),
  };
}

/** Budgets of everybody, of as many payers as `listBudgets` of one ledger has. */
export async function listEverybodysBudgets(ledger: Ledger): Promise<budgets.Budget[]> {
  const { payers } = await listPayersBudgets(ledger, null, budgets.MAX_PAYERS_LISTED);
  return payers.flatMap(({ budgets: own }) => own);
}
