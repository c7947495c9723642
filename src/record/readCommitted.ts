import type { Statement } from '../db/statement.js';

/** What a host's pool is here: of whatever copy of `pg`. */
export interface HostClient {
  query(
    config: string | { name?: string; text: string; values: unknown[] },
  ): Promise<{ rows: unknown[] }>;
  connect?(): Promise<HostSession>;
}

interface HostSession extends HostClient {
  on?(event: 'error', listener: () => void): unknown;
  off?(event: 'error', listener: () => void): unknown;
  release(destroy?: boolean): void;
}

/** A session that ends while it is ours: the statement tells. Unheard, it would end the host's process. */
function ignore(): void {}

/**
 * Runs statements of the ledger on a pool of a host's own, each in a transaction of its own at READ
 * COMMITTED: a write adds to rows that moved on since its snapshot, which no other level
 * allows. Where connections default to another one, which is asked once, the level is named.
 */
export class ReadCommitted {
  readonly #pool: HostClient;
  #isDefault: Promise<boolean> | null = null;

  constructor(pool: HostClient) {
    this.#pool = pool;
  }

  async run<Row>({ name, text, values }: Statement, isNamed: boolean): Promise<Row[]> {
    const query = isNamed ? { name, text, values } : { text, values };
    if (await this.#isReadCommitted()) return (await this.#pool.query(query)).rows as Row[];
    const session = await this.#pool.connect?.();
    if (!session) return (await this.#pool.query(query)).rows as Row[];
    let isLost = true;
    session.on?.('error', ignore);
    try {
      await session.query('begin isolation level read committed');
      try {
        const { rows } = await session.query(query);
        await session.query('commit');
        isLost = false;
        return rows as Row[];
      } catch (error) {
        await session.query('rollback');
        isLost = false;
        throw error;
      }
    } finally {
      session.release(isLost);
      session.off?.('error', ignore);
    }
  }

  /** The default may have changed: it is asked anew. */
  forget(): void {
    this.#isDefault = null;
  }

  async #isReadCommitted(): Promise<boolean> {
    this.#isDefault ??= this.#pool
      .query({ text: 'show default_transaction_isolation', values: [] })
      .then(({ rows }) => {
        const [row] = rows as { default_transaction_isolation?: string }[];
        return /^read (un)?committed$/.test(row?.default_transaction_isolation ?? '');
      });
    try {
      return await this.#isDefault;
    } catch (error) {
      this.#isDefault = null;
      throw error;
    }
  }
}
