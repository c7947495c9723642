import { type Payer, payerKey } from '../counter/payer.js';
import type { Query } from '../db/query.js';
import { type AlertPayerRow, alertedPayersStatement } from './alerts.sql.js';

const MAX_PAYERS = 100_000;

/**
 * Payers with alerts, as this process knows them: what it records of them is folded within a second or so.
 * A hint; who is missing here is found by the sweep of budgets.
 */
export class AlertedPayers {
  readonly #onUsed: (payer: Payer) => void;
  #keys = new Set<string>();

  constructor(onUsed: (payer: Payer) => void) {
    this.#onUsed = onUsed;
  }

  /** Usage of the payer was recorded. Costs nothing where nobody has alerts. */
  noteUsage({ kilo_user_id, organization_id }: Payer): void {
    if (this.#keys.size === 0) return;
    const payer = { kilo_user_id, organization_id };
    if (this.#keys.has(payerKey(payer))) this.#onUsed(payer);
  }

  add(payer: { scope: 'user' | 'organization'; id: string }): void {
    if (this.#keys.size < MAX_PAYERS) this.#keys.add(`${payer.scope}:${payer.id}`);
  }

  async refresh(query: Query): Promise<void> {
    const rows = await query<AlertPayerRow>(alertedPayersStatement(MAX_PAYERS));
    this.#keys = new Set(rows.map((row) => `${row.payer_scope}:${row.payer_id}`));
  }
}
