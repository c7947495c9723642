import { COUNTER_LIMIT } from '../counter/marks.sql.js';
import type { Query } from '../db/query.js';
import { isReadOnlyRefusal, isStatementTimeout, toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { toExactInteger } from '../money.js';
import {
  BALANCE_SOURCES,
  type BalanceRow,
  type BalanceSource,
  balanceBlockStatement,
  balanceStatement,
  countRepairsStatement,
  lockPayerStatement,
  moveBalanceStatement,
  type RepairsRow,
  readCheckpointStatement,
  saveCheckpointStatement,
  setOpeningStatement,
} from './balances.sql.js';
import {
  openRollupDatabase,
  type RollupDatabase,
  type RollupDatabaseOptions,
  requireWritable,
  tellWaiting,
  whileAway,
} from './database.js';
import { isOfPeriod } from './periodFailure.js';
import { auditStatement } from './rebuild.sql.js';

/**
 * Proof of balances (I5): recomputes what every payer has used from its declared sources
 * (`balances.sql.ts`) and compares with the reported balance, block by block, each in one
 * snapshot, with a checkpoint after each, so that a proof that was stopped goes on. An adopted
 * payer whose opening is not known yet (null) gets it derived here: what its row says minus what
 * the sources say. A payer that fails is named, and the rest goes on (I12).
 */
export type BalanceScope = BalanceSource['scope']['payers'];

/** Amounts are bigints past 2^53. */
export interface BalanceDrift {
  scope: BalanceScope;
  id: string;
  reportedMicrodollars: number | bigint;
  trueMicrodollars: number | bigint;
  /** Reported minus true, microdollars. */
  driftMicrodollars: number | bigint;
}

export interface BalanceFailure {
  scope: BalanceScope;
  id: string;
  message: string;
}

export interface BalanceReport {
  checked: number;
  drifted: number;
  repaired: number;
  /** Adopted payers whose opening balance was derived. */
  opened: number;
  /** Adopted payers whose opening balance is not known yet. */
  unopened: number;
  /** The first `MAX_DRIFTS`. */
  drifts: BalanceDrift[];
  /** Payers that could not be checked or repaired. */
  failures: BalanceFailure[];
}

export interface BalanceOptions extends RollupDatabaseOptions {
  url: string;
  repair?: boolean | undefined;
  /** Only this payer. */
  id?: string | undefined;
  /** Go on from the last checkpoint. Default false: from the start. */
  resume?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((scope: BalanceScope, checked: number) => void) | undefined;
  onNotice?: ((message: string) => void) | undefined;
}

const MAX_DRIFTS = 1_000;
const MAX_BLOCK = 1_000;
const TARGET_MS = 500;
/** For one payer's whole history, however long: it is read in a snapshot, and nothing is locked. */
const ONE_PAYER = { snapshot: 'read', statementTimeoutMs: 30 * 60_000 } as const;

export async function verifyBalances(options: BalanceOptions): Promise<BalanceReport> {
  const database = openRollupDatabase(options.url, 2, options);
  const report: BalanceReport = {
    checked: 0,
    drifted: 0,
    repaired: 0,
    opened: 0,
    unopened: 0,
    drifts: [],
    failures: [],
  };
  try {
    if (options.repair) await requireWritable(database.query);
    for (const source of BALANCE_SOURCES) {
      await new BalanceVerifier(database, source, options, report).run();
    }
    if (options.id !== undefined && report.checked === 0) throw unknownPayer();
    return report;
  } finally {
    await database.close();
  }
}

function unknownPayer(): LedgerError {
  return new LedgerError('unknown_user', 'there is no user and no organization with this id', {
    details: { field: 'user' },
  });
}

class BalanceVerifier {
  readonly #database: RollupDatabase;
  readonly #source: BalanceSource;
  readonly #options: BalanceOptions;
  readonly #report: BalanceReport;
  readonly #counts = { checked: 0, drifted: 0 };

  constructor(
    database: RollupDatabase,
    source: BalanceSource,
    options: BalanceOptions,
    report: BalanceReport,
  ) {
    this.#database = database;
    this.#source = source;
    this.#options = options;
    this.#report = report;
  }

  async run(): Promise<void> {
    const { id } = this.#options;
    if (id !== undefined) {
      const row = await this.#readOne(id);
      if (row) await this.#checkRows([row]);
      return;
    }
    let after = this.#options.resume ? await this.#readCheckpoint() : null;
    for (let limit = 100; !this.#options.signal?.aborted; ) {
      const startedAt = performance.now();
      const rows = await this.#readBlock(after, limit);
      if (rows === null) {
        limit = Math.max(1, Math.floor(limit / 4));
        continue;
      }
      await this.#checkRows(rows);
      after = rows.at(-1)?.id ?? after;
      const isLast = rows.length < limit;
      await this.#saveCheckpoint(isLast ? null : after, isLast);
      if (isLast) return;
      const durationMs = performance.now() - startedAt;
      limit =
        durationMs > TARGET_MS
          ? Math.max(1, Math.floor(limit / 2))
          : Math.min(MAX_BLOCK, Math.ceil(limit * 1.5));
    }
  }

  async #checkRows(rows: readonly BalanceRow[]): Promise<void> {
    for (const row of rows) {
      try {
        await this.#check(row);
      } catch (error) {
        if (!isOfPeriod(error)) throw error;
        this.#fail(row.id, toLedgerError(error).message);
      }
    }
    this.#report.checked += rows.length;
    this.#counts.checked += rows.length;
    this.#options.onProgress?.(this.#source.scope.payers, this.#report.checked);
  }

  /** Null when the block is too large for its time; one payer alone gets the time that it takes. */
  async #readBlock(after: string | null, limit: number): Promise<BalanceRow[] | null> {
    const block = balanceBlockStatement(this.#source, after, limit);
    return await this.#patiently(async () => {
      try {
        return await this.#database.query<BalanceRow>(block);
      } catch (error) {
        if (!isStatementTimeout(error)) throw error;
        if (limit > 1) return null;
        return await this.#database.transaction((query) => query<BalanceRow>(block), ONE_PAYER);
      }
    });
  }

  async #readOne(id: string): Promise<BalanceRow | undefined> {
    const one = balanceStatement(this.#source, id);
    const [row] = await this.#patiently(() =>
      this.#database.transaction((query) => query<BalanceRow>(one), ONE_PAYER),
    );
    return row;
  }

  async #check(row: BalanceRow): Promise<void> {
    const report = this.#report;
    if (row.opening === null) {
      if (this.#options.repair && (await this.#deriveOpening(row.id))) report.opened++;
      else report.unopened++;
      return;
    }
    const truth = BigInt(row.opening) + BigInt(row.sources);
    const drift = BigInt(row.reported) - truth;
    if (drift === 0n) return;
    this.#counts.drifted++;
    report.drifted++;
    if (report.drifts.length < MAX_DRIFTS) {
      report.drifts.push({
        scope: this.#source.scope.payers,
        id: row.id,
        reportedMicrodollars: toExactInteger(row.reported),
        trueMicrodollars: toExactInteger(truth),
        driftMicrodollars: toExactInteger(drift),
      });
    }
    if (this.#options.repair && (await this.#repair(row.id))) report.repaired++;
  }

  /**
   * Moves a payer's row by its drift. Whatever the ledger does moves what is reported and its sources
   * alike, so the drift of a snapshot is that of any later one: it is computed without a lock, in
   * the time that it takes, and taken away under the lock. Only another repair changes it; then
   * this one changes nothing.
   */
  async #repair(id: string): Promise<boolean> {
    const source = this.#source;
    const before = await this.#patiently(() =>
      this.#database.transaction(async (query) => {
        const [row] = await query<BalanceRow>(balanceStatement(source, id));
        return { row, ...(await this.#countRepairs(query, id, null)) };
      }, ONE_PAYER),
    );
    const { row } = before;
    if (!row || row.opening === null) return false;
    const after = BigInt(row.opening) + BigInt(row.sources);
    const by = after - BigInt(row.reported);
    if (by === 0n) return false;
    const correction = {
      kilo_user_id: source.key === 'kilo_user_id' ? id : null,
      organization_id: source.key === 'organization_id' ? id : null,
      period: null,
      before: row.reported,
      after: String(after),
    };
    return await this.#patiently(() =>
      this.#database.transaction(async (query) => {
        if ((await query(lockPayerStatement(source, id))).length === 0) return false;
        const now = await this.#countRepairs(query, id, before.since);
        if (now.repairs !== before.repairs) return false;
        if ((await query(moveBalanceStatement(source, id, by))).length === 0) {
          this.#fail(id, 'its row cannot hold its balance (2^63): raw rows with extreme cost');
          return false;
        }
        const cause = 'balance differs from its sources';
        await query(auditStatement(source.scope.payers, [correction], [cause]));
        return true;
      }),
    );
  }

  async #countRepairs(query: Query, id: string, since: string | null): Promise<RepairsRow> {
    const [row] = await query<RepairsRow>(countRepairsStatement(this.#source, id, since));
    if (!row) throw new Error('a count has one row');
    return row;
  }

  /** An adopted payer's opening balance: what its row said minus what the sources say. */
  async #deriveOpening(id: string): Promise<boolean> {
    const row = await this.#readOne(id);
    if (!row || row.opening !== null) return false;
    const opening = BigInt(row.reported) - BigInt(row.sources);
    if ((opening < 0n ? -opening : opening) >= BigInt(COUNTER_LIMIT)) {
      this.#fail(id, 'its row cannot hold its opening balance (2^63)');
      return false;
    }
    return await this.#patiently(() =>
      this.#database.transaction(async (query) => {
        if ((await query(lockPayerStatement(this.#source, id))).length === 0) return false;
        return (await query(setOpeningStatement(this.#source, id, opening))).length > 0;
      }),
    );
  }

  #fail(id: string, message: string): void {
    if (this.#report.failures.length >= MAX_DRIFTS) return;
    this.#report.failures.push({ scope: this.#source.scope.payers, id, message });
  }

  async #readCheckpoint(): Promise<string | null> {
    const [row] = await this.#database.query<{ done_until: string | null }>(
      readCheckpointStatement(this.#source),
    );
    return row?.done_until ?? null;
  }

  async #saveCheckpoint(doneUntil: string | null, isFinished: boolean): Promise<void> {
    const statement = saveCheckpointStatement(this.#source, doneUntil, this.#counts, isFinished);
    await this.#patiently(() =>
      this.#database.query(statement).catch((error) => {
        // On a replica, or as a reader, a proof leaves no checkpoint.
        if (!isReadOnlyRefusal(error)) throw error;
      }),
    );
  }

  #patiently<T>(run: () => Promise<T>): Promise<T> {
    return whileAway(run, tellWaiting(this.#options.onNotice), this.#options.signal);
  }
}
