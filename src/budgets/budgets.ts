import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { invalidField } from '../accounts/fields.js';
import { runStatement } from '../accounts/runStatement.js';
import { queryOnPool } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import { inTransaction } from '../db/transaction.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { toExactInteger, toSafeInteger } from '../money.js';
import { formatMicros } from '../record/instants.sql.js';
import type { BudgetPeriod, BudgetScope, BudgetSetter } from '../schema/budgets.js';
import { scopeNamed } from '../schema/unsettled.js';
import {
  CHANGE_BUDGET,
  type ChangedRow,
  FIND_BUDGET,
  type FoundRow,
  keyValues,
  MOVE_ALERTS,
  PAYERS_WITH_BUDGETS,
  type PayerRow,
  REMOVE_BUDGET,
  RETIRE_OTHER_ZONE,
  type RetiredRow,
  SET_BUDGET,
  type SetRow,
  SILENCE_BUDGET,
} from './budgets.sql.js';
import type { BudgetFolder } from './folder.js';
import { type BudgetChange, type NewBudget, readChange, readNewBudget } from './newBudget.js';
import { type BudgetStateRow, readBudgetsStatement } from './read.sql.js';

/** A budget and its window of now, exact in one snapshot. Amounts in microdollars. */
export interface Budget {
  id: string;
  scope: BudgetScope;
  /** The user it limits; of an organization's budget the member. */
  kilo_user_id: string | null;
  organization_id: string | null;
  api_key_id: string | null;
  project_id: string | null;
  window: BudgetPeriod;
  /** IANA. */
  time_zone: string;
  is_hard: boolean;
  /** What the payer acquired, as a budget. */
  is_balance: boolean;
  /** Who set it, and changes it; an administrator changes any. */
  set_by: BudgetSetter;
  /** With the raise that is in force. */
  limit_microdollars: number;
  raise_microdollars: number | null;
  raise_until: string | null;
  /** Recorded usage; not what is held. A bigint past 2^53. */
  spent_microdollars: number | bigint;
  held_microdollars: number | bigint;
  /** limit - spent - held, not below 0. */
  available_microdollars: number | bigint;
  /** spent - limit, not below 0: usage without a hold, beyond it, or a limit that was lowered. */
  overshoot_microdollars: number | bigint;
  /** ISO 8601; null of all time. */
  resets_at: string | null;
}

/** Where budgets are kept, and what brings them in force. */
export interface BudgetStore {
  pool: pg.Pool;
  folder: BudgetFolder;
}

export interface BudgetPayer {
  scope: 'user' | 'organization';
  id: string;
}

/** What decides who may set a budget. */
export interface BudgetSubject extends BudgetPayer {
  budgetScope: BudgetScope;
  /** Whose usage alone it counts; null of several. */
  onlyUser: string | null;
}

export const MAX_PAYERS_LISTED = 1_000;
const FOLD_TRIES = 20;
const FOLD_PAUSE_MS = 10;
/** The second holds the row that the first met. */
const ZONE_TRIES = 2;

/**
 * Sets a budget: the same scope, subject and window again changes its limit, if the same set it, and what
 * else is given; zone and mode are otherwise kept. In force for the next hold; usage of its window so far
 * is in it.
 * @param authorize as whom the caller sets it; throws where they may not
 * @throws LedgerError `invalid_request` naming the field, `unknown_user`, `unknown_organization`,
 *   `not_found` of a key
 */
export async function setBudget(
  store: BudgetStore,
  budget: NewBudget,
  authorize: (subject: BudgetSubject) => Promise<BudgetSetter> = async () => 'admin',
): Promise<Budget> {
  const valid = await readNewBudget(store.pool, budget);
  const { key, onlyUser } = valid;
  const payer = { scope: key.payerScope, id: key.payerId };
  const setBy = await authorize({ ...payer, budgetScope: key.scope, onlyUser });
  const set = await inTransaction(store.pool, async (client) => {
    const inZone = [...keyValues(key), valid.timeZone, setBy];
    const values = [valid.limitMicrodollars, valid.isHard, valid.createdBy];
    const replaced: string[] = [];
    let wasHard: boolean | null = null;
    let row: SetRow | undefined;
    // Who sets it in another zone beside this is not seen before the insert has met it.
    const isInZone = () => row?.time_zone === (valid.timeZone ?? row?.time_zone);
    for (let tries = 0; tries < ZONE_TRIES && (!row || !isInZone()); tries++) {
      const retired = await client.query<RetiredRow>(RETIRE_OTHER_ZONE, inZone);
      replaced.push(...retired.rows.map(({ id }) => id));
      wasHard = retired.rows[0]?.is_hard ?? wasHard;
      ({
        rows: [row],
      } = await client.query<SetRow>(SET_BUDGET, [...inZone, ...values, wasHard]));
    }
    if (replaced.length > 0) await client.query(MOVE_ALERTS, [replaced, row?.id]);
    return row;
  }).catch((error) => {
    throw toLedgerError(error);
  });
  return await settled(store, payer, set?.id ?? '');
}

/**
 * Changes limit or mode, or raises the limit for a time.
 * @throws LedgerError `invalid_request` naming the field, `not_found`
 */
export async function changeBudget(
  store: BudgetStore,
  id: string,
  change: BudgetChange,
): Promise<Budget> {
  const valid = readChange(change);
  const [row] = await runStatement<ChangedRow>(store.pool, CHANGE_BUDGET, [
    readUuid('id', id),
    valid.limitMicrodollars,
    valid.isHard,
    valid.raiseMicrodollars,
    valid.raiseUntil,
  ]);
  if (!row) throw noBudget(id);
  return await settled(store, { scope: row.payer_scope, id: row.payer_id }, row.id);
}

/** It limits nothing from the next hold on. @throws LedgerError `not_found` */
export async function removeBudget(store: BudgetStore, id: string): Promise<{ id: string }> {
  const budgetId = readUuid('id', id);
  const row = await inTransaction(store.pool, async (client) => {
    const { rows } = await client.query<ChangedRow>(REMOVE_BUDGET, [budgetId]);
    if (rows.length > 0) await client.query(SILENCE_BUDGET, [budgetId]);
    return rows[0];
  }).catch((error) => {
    throw toLedgerError(error);
  });
  if (!row) throw noBudget(id);
  return { id: row.id };
}

/** Whose budget it is. @param field that named it @throws LedgerError `not_found` */
export async function findBudget(
  pool: pg.Pool,
  id: string,
  field = 'id',
): Promise<BudgetSubject & { setBy: BudgetSetter }> {
  const [row] = await runStatement<FoundRow>(pool, FIND_BUDGET, [readUuid(field, id)]);
  if (!row) throw noBudget(id, field);
  return {
    scope: row.payer_scope,
    id: row.payer_id,
    budgetScope: row.scope,
    onlyUser: row.only_user,
    setBy: row.set_by,
  };
}

/** Of one payer with its balance, or of every payer that has budgets, up to a thousand. */
export async function listBudgets(
  store: BudgetStore,
  payer: BudgetPayer | null,
): Promise<Budget[]> {
  if (payer !== null) return await readBudgets(store, payer);
  const { payers } = await listPayersBudgets(store, null, MAX_PAYERS_LISTED);
  return payers.flatMap(({ budgets }) => budgets);
}

/** Payers that have budgets, with all of theirs, in an order that stays; a page after `after`. */
export async function listPayersBudgets(
  store: BudgetStore,
  after: BudgetPayer | null,
  limit: number,
): Promise<{
  payers: (BudgetPayer & { name: string | null; budgets: Budget[] })[];
  has_more: boolean;
}> {
  const rows = await runStatement<PayerRow>(store.pool, PAYERS_WITH_BUDGETS, [
    limit + 1,
    after?.scope ?? null,
    after?.id ?? null,
  ]);
  const payers = [];
  for (const { payer_scope: scope, payer_id: id, name } of rows.slice(0, limit)) {
    payers.push({ scope, id, name, budgets: await readBudgets(store, { scope, id }) });
  }
  return { payers, has_more: rows.length > limit };
}

/** What was changed is in force: a limit that was lowered is accounted for before this answers. */
async function settled(store: BudgetStore, payer: BudgetPayer, id: string): Promise<Budget> {
  const rows = await foldPatiently(store, payer);
  const row = rows.find(({ budget_id }) => budget_id === id);
  if (!row) throw noBudget(id);
  return toBudget(row, payer);
}

async function readBudgets(store: BudgetStore, payer: BudgetPayer): Promise<Budget[]> {
  let rows = await readRows(store, payer);
  if (isUnopened(rows)) rows = await foldPatiently(store, payer);
  return rows.map((row) => toBudget(row, payer));
}

/**
 * Where a mark stays with someone else, the background, or the next hold, does it later: also that of an
 * organization, without which a key's window is not opened, and tells of nothing spent.
 * @returns what is there then
 */
async function foldPatiently(store: BudgetStore, payer: BudgetPayer): Promise<BudgetStateRow[]> {
  const { folder } = store;
  const scope = scopeNamed(payer.scope);
  await folder.openWithOthers(scope, payer.id);
  for (let tries = 1; ; tries++) {
    const folded = await folder.foldFor(scope, payer.id, 0);
    const isLast = tries === FOLD_TRIES;
    if (folded !== null || isLast) {
      const rows = await readRows(store, payer);
      if (isLast || !isUnopened(rows)) return rows;
    }
    await sleep(FOLD_PAUSE_MS);
  }
}

const isUnopened = (rows: readonly BudgetStateRow[]): boolean =>
  rows.length === 0 || rows.some(({ window_id }) => window_id === null);

const readRows = (store: BudgetStore, { scope, id }: BudgetPayer): Promise<BudgetStateRow[]> =>
  queryOnPool(store.pool, false)<BudgetStateRow>(readBudgetsStatement(scopeNamed(scope), id));

function toBudget(row: BudgetStateRow, payer: BudgetPayer): Budget {
  const limit = BigInt(row.limit_microdollars);
  const left = limit - BigInt(row.spent) - BigInt(row.held);
  const over = BigInt(row.spent) - limit;
  return {
    id: row.budget_id,
    scope: row.scope,
    kilo_user_id: payer.scope === 'user' ? payer.id : row.kilo_user_id,
    organization_id: payer.scope === 'organization' ? payer.id : null,
    api_key_id: row.api_key_id,
    project_id: row.project_id,
    window: row.period,
    time_zone: row.time_zone,
    is_hard: row.is_hard,
    is_balance: row.is_balance,
    set_by: row.set_by,
    limit_microdollars: toSafeInteger(row.limit_microdollars),
    raise_microdollars:
      row.raise_microdollars === null ? null : toSafeInteger(row.raise_microdollars),
    raise_until: row.raise_until_micros === null ? null : formatMicros(row.raise_until_micros),
    spent_microdollars: toExactInteger(row.spent),
    held_microdollars: toExactInteger(row.held),
    available_microdollars: toExactInteger(left > 0n ? left : 0n),
    overshoot_microdollars: toExactInteger(over > 0n ? over : 0n),
    resets_at: row.resets_micros === null ? null : formatMicros(row.resets_micros),
  };
}

/** @throws LedgerError naming the field, unless exactly one is given */
export function readPayer(
  kiloUserId: string | null | undefined,
  organizationId: string | null | undefined,
): BudgetPayer {
  if ((kiloUserId ?? null) !== null && (organizationId ?? null) === null) {
    return { scope: 'user', id: kiloUserId as string };
  }
  if ((kiloUserId ?? null) === null && (organizationId ?? null) !== null) {
    return { scope: 'organization', id: readUuid('organization_id', organizationId as string) };
  }
  throw invalidField('kilo_user_id', 'or organization_id: name exactly one of the two');
}

function noBudget(id: string, field = 'id'): LedgerError {
  return new LedgerError(
    'not_found',
    `${field} names no budget that is in force; a balance is changed by credit`,
    { details: { field, id } },
  );
}
