import { expect } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { type Alert, setAlert } from '../../src/alerts/alerts.js';
import type { NewAlert } from '../../src/alerts/newAlert.js';
import { setBudget } from '../../src/budgets/budgets.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { addPayer, foldBudgets } from './budgetHarness.js';
import type { LedgerFixture } from './ledgerHarness.js';

export interface ToldEvent {
  kind: string;
  threshold: number;
  limit: number;
  spent: number;
  alert_id: string;
}

/** What was told of a payer, in the order of its lines. */
export function eventsOf(
  fixture: Pick<LedgerFixture, 'rows'>,
  payer: string,
): Promise<ToldEvent[]> {
  return fixture.rows<ToldEvent>(
    `select a.kind, e.threshold::float as threshold, e.limit_microdollars::float as limit,
       e.spent_microdollars::float as spent, e.alert_id
     from usage_alert_events e join usage_alerts a on a.id = e.alert_id
     where a.payer_id = $1 order by e.window_start, a.kind, e.threshold`,
    [payer],
  );
}

export const thresholdsOf = async (fixture: Pick<LedgerFixture, 'rows'>, payer: string) =>
  (await eventsOf(fixture, payer)).map(({ threshold }) => threshold);

/** A user that acquired 1,000, with a budget of 100 a day and an alert on it. */
export async function addAlerted(
  fixture: LedgerFixture,
  ledger: Ledger,
  { window = 'day', ...more }: Partial<NewAlert> & { window?: string } = {},
): Promise<{ user: string; budgetId: string; alert: Alert }> {
  const user = await addPayer(fixture, 1_000);
  const budget = await setBudget(budgetStore(ledger), {
    scope: 'user',
    id: user,
    limit_usd: '0.0001',
    window,
    mode: 'soft',
  });
  const alert = await setAlert(ledger.alertStore, {
    kind: 'budget',
    budget_id: budget.id,
    ...more,
  });
  return { user, budgetId: budget.id, alert };
}

export const budgetStore = (ledger: Ledger) => ({
  pool: ledger.pool,
  folder: ledger.budgetFolder,
});

/** Usage, counted by the budgets when this returns. */
export async function spend(
  ledger: Ledger,
  user: string,
  cost: number,
  more: object = {},
): Promise<void> {
  await ledger.recordUsage({ kilo_user_id: user, cost, ...more });
  await foldBudgets(ledger, { user });
}

/** A credit of so many microdollars, known to the budgets. */
export async function topUp(
  fixture: LedgerFixture,
  ledger: Ledger,
  user: string,
  microdollars: number,
): Promise<void> {
  const usd = String(microdollars / 1_000_000);
  await addCredit(fixture.database.pool, { kilo_user_id: user, usd });
  await foldBudgets(ledger, { user });
}

export async function countOf(
  fixture: Pick<LedgerFixture, 'rows'>,
  table: string,
): Promise<number> {
  const [row] = await fixture.rows<{ n: number }>(`select count(*)::integer as n from ${table}`);
  expect(row).toBeDefined();
  return row?.n ?? -1;
}
