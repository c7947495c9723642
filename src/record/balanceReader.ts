import type { Query } from '../db/query.js';
import { classifyFailure } from '../db/sqlstate.js';
import { plainArray, textArray } from '../db/statement.js';
import { toSafeInteger } from '../money.js';
import type { ValidEvent } from './event.js';

export type Payer = Pick<ValidEvent, 'kilo_user_id' | 'organization_id'>;

/** A payer's key: users and organizations do not share a name space. */
export function payerKey(payer: Payer): string {
  return payer.organization_id === null
    ? `user:${payer.kilo_user_id}`
    : `organization:${payer.organization_id}`;
}

/** The functions know Exa's charges too, but cost more than the whole rest: for payers that need it. */
const READ_BALANCES = `/* microdollar.readBalances */
select 'user:' || u.id as key,
  case when p.has_exa then microdollar_user_balance(u.id)
    else u.microdollars_used + p.usage_microdollars end as balance
from unnest($1::text[]) as t(id)
cross join lateral (
  select u.id, u.microdollars_used, u.pending_floor
  from kilocode_users as u
  where u.id = t.id
  limit 1
) as u
cross join lateral (
  select coalesce(sum(p.cost_microdollars), 0)::bigint as usage_microdollars,
    coalesce(bool_or(p.exa_month is not null), false) as has_exa
  from microdollar_usage_pending as p
  where (p.kilo_user_id, p.xid) >= (u.id, u.pending_floor)
    and p.kilo_user_id <= u.id
    and p.organization_id is null
) as p
union all
select 'organization:' || o.id,
  case when p.has_exa then microdollar_organization_balance(o.id)
    else o.microdollars_used + p.usage_microdollars end
from unnest($2::uuid[]) as t(id)
cross join lateral (
  select o.id, o.microdollars_used, o.pending_floor
  from organizations as o
  where o.id = t.id
  limit 1
) as o
cross join lateral (
  select coalesce(sum(p.cost_microdollars), 0)::bigint as usage_microdollars,
    coalesce(bool_or(p.exa_month is not null), false) as has_exa
  from microdollar_usage_pending as p
  where (p.organization_id, p.xid) >= (o.id, o.pending_floor)
    and p.organization_id <= o.id
) as p`;

interface Waiting {
  payer: Payer;
  callers: { resolve: (balance: number) => void; reject: (error: unknown) => void }[];
}

/**
 * Reads balances for callers whose write has committed: one statement at a time, for every payer
 * asked for since the last one began. A balance is read by a statement that began after the
 * caller's commit, so it contains the caller's write and everything committed before it.
 */
export class BalanceReader {
  readonly #query: Query;
  #waiting = new Map<string, Waiting>();
  #isRunning = false;

  constructor(query: Query) {
    this.#query = query;
  }

  /** Microdollars used by the payer, exact (I5). */
  read(payer: Payer): Promise<number> {
    return new Promise((resolve, reject) => {
      const key = payerKey(payer);
      let waiting = this.#waiting.get(key);
      if (!waiting) {
        waiting = { payer, callers: [] };
        this.#waiting.set(key, waiting);
      }
      waiting.callers.push({ resolve, reject });
      if (!this.#isRunning) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.size > 0) {
      const batch = [...this.#waiting.values()];
      this.#waiting = new Map();
      await this.#answer(batch);
    }
    this.#isRunning = false;
  }

  async #answer(batch: readonly Waiting[]): Promise<void> {
    try {
      const balances = await this.#readAll(batch.map((each) => each.payer));
      for (const { payer, callers } of batch) {
        for (const caller of callers) settle(caller, balances.get(payerKey(payer)));
      }
    } catch (error) {
      // A balance that is out of range is its payer's own: the neighbours still get theirs.
      if (batch.length > 1 && classifyFailure(error) === 'data') {
        for (const each of batch) await this.#answer([each]);
        return;
      }
      for (const { callers } of batch) {
        for (const caller of callers) caller.reject(error);
      }
    }
  }

  async #readAll(payers: readonly Payer[]): Promise<Map<string, string>> {
    const users = payers.filter((payer) => payer.organization_id === null);
    const organizations = payers.filter((payer) => payer.organization_id !== null);
    const rows = await this.#query<{ key: string; balance: string }>({
      name: 'microdollar_read_balances',
      text: READ_BALANCES,
      values: [
        textArray(users.map((payer) => payer.kilo_user_id)),
        plainArray(organizations.map((payer) => payer.organization_id)),
      ],
    });
    return new Map(rows.map((row) => [row.key, row.balance]));
  }
}

function settle(caller: Waiting['callers'][number], balance: string | undefined): void {
  try {
    caller.resolve(toSafeInteger(balance ?? 0));
  } catch (error) {
    caller.reject(error);
  }
}
