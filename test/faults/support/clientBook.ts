import type pg from 'pg';
import { BALANCES, DAILY, EXA_LOG, USAGE } from './clientBook.sql.js';

/** What a client asks to be recorded: usage, or an Exa request. */
export interface SentEvent {
  kind: 'usage' | 'exa';
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  /** Microdollars. */
  cost: number;
  created_at?: string;
}

export interface Answer {
  id: string;
  status: 'recorded' | 'duplicate';
  created_at: string;
}

interface Entry {
  event: SentEvent;
  /** Of the first answer; null: never acknowledged. */
  createdAt: string | null;
}

interface StoredRow {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  cost: number;
  created_at: string;
}

/** Free allowance a payer and month, microdollars; `createAccounts` sets it. */
export const EXA_ALLOWANCE_MICRODOLLARS = 100_000;

/**
 * What clients sent and what they were told, kept outside of everything that is killed. The
 * totals it expects are its own sums: the ledger's tables are only compared with them.
 */
export class ClientBook {
  readonly #entries = new Map<string, Entry>();
  /** Answers that are wrong in themselves, and refusals that no retry would help. */
  readonly problems: string[] = [];
  #acknowledged = 0;

  send(event: SentEvent): void {
    if (!this.#entries.has(event.id)) this.#entries.set(event.id, { event, createdAt: null });
  }

  acknowledge(answer: Answer, options: { isRepeat?: boolean } = {}): void {
    const entry = this.#entries.get(answer.id);
    if (!entry) return void this.problems.push(`${answer.id}: answered, but never sent`);
    if (options.isRepeat && answer.status !== 'duplicate') {
      this.problems.push(`${answer.id}: sent again after its answer, and ${answer.status}`);
    }
    if (entry.createdAt === null) this.#acknowledged++;
    entry.createdAt ??= answer.created_at;
    if (Date.parse(entry.createdAt) !== Date.parse(answer.created_at)) {
      this.problems.push(`${answer.id}: at ${entry.createdAt}, then at ${answer.created_at}`);
    }
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }

  get sent(): number {
    return this.#entries.size;
  }

  /** Ids that were acknowledged and are not in the database. */
  async missing(client: pg.ClientBase | pg.Pool): Promise<string[]> {
    const stored = await readStored(client);
    return [...this.#entries]
      .filter(([id, entry]) => entry.createdAt !== null && !stored.has(id))
      .map(([id]) => id);
  }

  /**
   * Everything acknowledged is there, unchanged; nothing is there that nobody sent; and the
   * reported totals and balances are the sums of this book. What was sent and never answered
   * may be there or not, and counts if it is.
   * @returns differences in words; empty = none
   */
  async compare(pool: pg.Pool): Promise<string[]> {
    const client = await pool.connect();
    try {
      await client.query('begin isolation level repeatable read read only');
      const stored = await readStored(client);
      const differences = [...this.problems, ...this.#compareRows(stored)];
      differences.push(...(await this.#compareTotals(client, stored)));
      await client.query('commit');
      return differences;
    } finally {
      client.release();
    }
  }

  #compareRows(stored: ReadonlyMap<string, StoredRow>): string[] {
    const differences: string[] = [];
    for (const [id, { event, createdAt }] of this.#entries) {
      const row = stored.get(id);
      if (!row) {
        if (createdAt !== null) differences.push(`${id}: acknowledged and missing`);
      } else if (
        row.cost !== event.cost ||
        row.kilo_user_id !== event.kilo_user_id ||
        row.organization_id !== event.organization_id ||
        (createdAt !== null && Date.parse(createdAt) !== Date.parse(row.created_at))
      ) {
        differences.push(`${id}: recorded otherwise than sent`);
      }
    }
    for (const id of stored.keys()) {
      if (!this.#entries.has(id)) differences.push(`${id}: recorded, but nobody sent it`);
    }
    return differences;
  }

  async #compareTotals(
    client: pg.ClientBase,
    stored: ReadonlyMap<string, StoredRow>,
  ): Promise<string[]> {
    const daily = new Map<string, number>();
    const exaMonths = new Map<string, { payer: string; total: number }>();
    const balances = new Map<string, number>();
    for (const [id, { event, createdAt }] of this.#entries) {
      const at = createdAt ?? stored.get(id)?.created_at;
      if (at === undefined) continue;
      const day = new Date(at).toISOString().slice(0, 10);
      const scope = `${event.kilo_user_id}|${event.organization_id ?? ''}`;
      const payer = event.organization_id ?? event.kilo_user_id;
      if (event.kind === 'usage') {
        add(daily, `${scope}|${day}`, event.cost);
        add(balances, payer, event.cost);
        continue;
      }
      const month = exaMonths.get(`${scope}|${day.slice(0, 7)}`) ?? { payer, total: 0 };
      month.total += event.cost;
      exaMonths.set(`${scope}|${day.slice(0, 7)}`, month);
    }
    for (const { payer, total } of exaMonths.values()) {
      add(balances, payer, Math.max(0, total - EXA_ALLOWANCE_MICRODOLLARS));
    }
    return [
      ...differencesOf('day', daily, await readTotals(client, DAILY)),
      ...differencesOf('balance', balances, await readTotals(client, BALANCES)),
    ];
  }
}

async function readStored(client: pg.ClientBase | pg.Pool): Promise<Map<string, StoredRow>> {
  const stored = new Map<string, StoredRow>();
  for (const text of [USAGE, EXA_LOG]) {
    const { rows } = await client.query<StoredRow>(text);
    for (const row of rows) stored.set(row.id, { ...row, cost: Number(row.cost) });
  }
  return stored;
}

async function readTotals(client: pg.ClientBase, text: string): Promise<Map<string, number>> {
  const { rows } = await client.query<{ key: string; total: string }>(text);
  return new Map(rows.map((row) => [row.key, Number(row.total)]));
}

function add(totals: Map<string, number>, key: string, amount: number): void {
  totals.set(key, (totals.get(key) ?? 0) + amount);
}

function differencesOf(
  what: string,
  expected: ReadonlyMap<string, number>,
  reported: ReadonlyMap<string, number>,
): string[] {
  const keys = new Set([...expected.keys(), ...reported.keys()]);
  return [...keys].flatMap((key) => {
    const [want, got] = [expected.get(key) ?? 0, reported.get(key) ?? 0];
    return want === got ? [] : [`${what} ${key}: reported ${got}, the clients' own sum is ${want}`];
  });
}
