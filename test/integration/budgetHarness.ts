import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, vi } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../src/schema/unsettled.js';
import { checkInvariants, checkNeverExceeds } from '../support/checkInvariants.js';
import type { LedgerFixture } from './ledgerHarness.js';

/** Whatever has a database to ask. */
type Asked = Pick<LedgerFixture, 'rows'>;

export interface NewBudget {
  scope: 'user' | 'organization' | 'member' | 'key' | 'project';
  payer: { user: string } | { organization: string };
  limit: number;
  period?: 'day' | 'week' | 'month' | 'total';
  user?: string;
  key?: string;
  project?: string;
  isHard?: boolean;
}

/** A budget by hand, as `setBudget` makes it. */
export async function addBudget(fixture: Asked, budget: NewBudget): Promise<string> {
  const [scope, payer] =
    'user' in budget.payer
      ? ['user', budget.payer.user]
      : ['organization', budget.payer.organization];
  const [row] = await fixture.rows<{ id: string }>(
    `insert into budgets (scope, payer_scope, payer_id, kilo_user_id, api_key_id, project_id, period,
       limit_microdollars, is_hard)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning id`,
    [
      budget.scope,
      scope,
      payer,
      budget.user ?? null,
      budget.key ?? null,
      budget.project ?? null,
      budget.period ?? 'day',
      budget.limit,
      budget.isHard ?? true,
    ],
  );
  return row?.id ?? '';
}

export async function acquire(
  fixture: Asked,
  payer: { user: string } | { organization: string },
  amount: number,
): Promise<void> {
  const [table, id] =
    'user' in payer ? ['kilocode_users', payer.user] : ['organizations', payer.organization];
  await fixture.rows(
    `update ${table} set total_microdollars_acquired = total_microdollars_acquired + $2
     where id::text = $1`,
    [id, amount],
  );
}

/** A user that acquired so much. */
export async function addPayer(fixture: LedgerFixture, acquired: number): Promise<string> {
  const user = await fixture.addUser();
  await acquire(fixture, { user }, acquired);
  return user;
}

/** Folds everything that is due of a payer, whatever others hold. */
export async function foldBudgets(
  ledger: Ledger,
  payer: { user: string } | { organization: string },
): Promise<void> {
  const [scope, id] =
    'user' in payer
      ? ([USER_SCOPE, payer.user] as const)
      : ([ORGANIZATION_SCOPE, payer.organization] as const);
  // The ledger folds by itself too: while it does, there is nothing to take.
  const fold = async () => expect(await ledger.budgetFolder.foldFor(scope, id, 0)).not.toBeNull();
  await vi.waitFor(fold, { timeout: 30_000 });
}

export interface WindowState {
  scope: string;
  is_balance: boolean;
  limit: number;
  spent: number;
  carry: number;
  slots: number;
  held: number;
}

/** Windows of a payer, the balance first. */
export function windowsOf(fixture: Asked, payer: string): Promise<WindowState[]> {
  return fixture.rows<WindowState>(
    `select b.scope, b.is_balance, w.limit_microdollars::float as limit,
       w.spent_microdollars::float as spent, w.carry_microdollars::float as carry,
       (select sum(h.remaining_microdollars)::float from headroom h where h.window_id = w.id) as slots,
       (select coalesce(sum(h.amount_microdollars), 0)::float from usage_holds h
         where w.id = any (h.window_ids)) as held
     from budgets b join budget_windows w on w.budget_id = b.id
     where b.payer_id = $1
     order by not b.is_balance, b.created_at, w.window_start`,
    [payer],
  );
}

export const newHold = (user: string, amount: number, more: object = {}) => ({
  id: randomUUID(),
  kilo_user_id: user,
  amount,
  ...more,
});

/** I13, and what else always holds. */
export async function expectIdentity(fixture: LedgerFixture): Promise<void> {
  expect(await checkInvariants(fixture.database.pool)).toEqual([]);
}

/** The same where every request is held and none costs more: no limit is passed. */
export async function expectWhole(fixture: LedgerFixture): Promise<void> {
  expect(await checkInvariants(fixture.database.pool)).toEqual([]);
  expect(await checkNeverExceeds(fixture.database.pool)).toEqual([]);
}

/**
 * Does something right after the first fold of budgets that is asked for, before its answer is heard of;
 * until the test ends. @returns the folds asked for so far
 */
export function afterFirstFold(
  ledger: Ledger,
  then: (folded: FoldedWindows) => Promise<unknown>,
): () => number {
  const folder = ledger.budgetFolder;
  const fold = folder.foldFor.bind(folder);
  const folding = vi.spyOn(folder, 'foldFor').mockImplementationOnce(async (...asked) => {
    const folded = await fold(...asked);
    await then(folded);
    return folded;
  });
  onTestFinished(() => folding.mockRestore());
  return () => folding.mock.calls.length;
}

type FoldedWindows = Awaited<ReturnType<Ledger['budgetFolder']['foldFor']>>;
