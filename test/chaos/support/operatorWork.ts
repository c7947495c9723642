import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApiKey, revokeApiKey } from '../../../src/accounts/apiKeys.js';
import { authenticateApiKey, forgetApiKey } from '../../../src/accounts/authenticate.js';
import { addCredit } from '../../../src/accounts/credits.js';
import { softDeleteUser } from '../../../src/accounts/softDelete.js';
import { LedgerError } from '../../../src/errors.js';
import type { Ledger } from '../../../src/ledgerTypes.js';
import { archiveUsage } from '../../../src/rollup/archive/archive.js';
import { runBackfill } from '../../../src/rollup/backfill.js';
import { verifyBalances } from '../../../src/rollup/balances.js';
import { repairRollup } from '../../../src/rollup/repair.js';
import { verifyRollup } from '../../../src/rollup/verify.js';
import { DAILY_ROLLUP, ROLLUPS } from '../../../src/schema/rollups.js';
import { FOREIGN, LEAVING, PEOPLE, UNFIT } from './cast.js';
import { DAY_MS, SHARED_DAYS, utcDay } from './events.js';
import { openLedger } from './ledgerWork.js';
import { repeat, type Work } from './work.js';

export const archiveDir = (dir: string): string => path.join(dir, 'archive');
const ARCHIVE_LIMITS = { rowsPerFile: 700, rowsPerTransaction: 50 };

/** Everything that an operator or a schedule runs, each in a loop of its own, all at once. */
export async function runOperator(work: Work): Promise<void> {
  const ledger = await openLedger(work, { backgroundFold: false, poolSize: 4 });
  if (!ledger) return;
  const operator = new Operator(work, ledger);
  const loops: Record<string, () => Promise<void>> = {
    fold: () => operator.fold(),
    backfill: () => operator.backfill(),
    repair: () => operator.repair(),
    balances: () => operator.balances(),
    archive: () => operator.archive(),
    'soft delete': () => operator.softDelete(),
    credit: () => operator.credit(),
    key: () => operator.key(),
    prepared: () => operator.endPrepared(),
  };
  await Promise.all(Object.entries(loops).map(([name, step]) => repeat(work, name, step)));
  await ledger.close();
}

const isForeign = (user: string) => user === UNFIT || FOREIGN.some((each) => each === user);

class Operator {
  readonly #work: Work;
  readonly #ledger: Ledger;
  readonly #credited: string[] = [];
  #archiveUntil = SHARED_DAYS;
  #leaving = 0;

  constructor(work: Work, ledger: Ledger) {
    this.#work = work;
    this.#ledger = ledger;
  }

  async fold(): Promise<void> {
    await this.#ledger.fold();
    this.#work.book.done('fold');
    await sleep(this.#work.random.between(20, 500));
  }

  async backfill(): Promise<void> {
    const { random, url, book } = this.#work;
    // Days that are unbuilt keep the archive from all others, rightly: most times its own are spared.
    await this.#ledger.pool.query(
      `update rollup_coverage
      set state = 'unbuilt', done_until_user = null
      where state in ('built', 'verified')
        and random() < 0.4
        and ($1::date is null or period > $1)`,
      [random.next() < 0.8 ? this.#archiveDay() : null],
    );
    const report = await runBackfill({ url, rollup: random.pick(ROLLUPS), workers: 2 });
    for (const failure of report.failures) book.problem(`backfill: ${JSON.stringify(failure)}`);
    book.done('backfill');
    await sleep(random.between(200, 1_500));
  }

  /** Who is not foreign never drifts, whatever runs beside the verification. */
  async repair(): Promise<void> {
    const { random, url, book } = this.#work;
    const { found } = await repairRollup({ url, rollup: random.pick(ROLLUPS) });
    for (const failure of found.failures) book.problem(`verify: ${JSON.stringify(failure)}`);
    for (const drift of found.drifts) {
      if (!isForeign(drift.kiloUserId)) book.problem(`drift: ${toText(drift)}`);
    }
    book.done('repair');
    await sleep(random.between(200, 1_500));
  }

  async balances(): Promise<void> {
    const { random, url, book } = this.#work;
    const { drifts } = await verifyBalances({ url, repair: random.next() < 0.3 });
    for (const drift of drifts) if (!isForeign(drift.id)) book.problem(`balance: ${toText(drift)}`);
    book.done('verify --balances');
    await sleep(random.between(200, 1_500));
  }

  /** The last day that is to be archived next. */
  #archiveDay(): string {
    return utcDay(this.#work.startMs - this.#archiveUntil * DAY_MS);
  }

  /** A day more each time, the oldest first; what was written to it meanwhile is refused or in it. */
  async archive(): Promise<void> {
    const { random, url, dir, book } = this.#work;
    await sleep(random.between(1_000, 5_000));
    const until = this.#archiveDay();
    await verifyRollup({ url, rollup: DAILY_ROLLUP, until });
    try {
      await archiveUsage({
        url,
        until,
        directory: archiveDir(dir),
        waitMs: 5_000,
        limits: ARCHIVE_LIMITS,
      });
    } catch (error) {
      // Held, or open: what the command tells its operator, who runs it again.
      if (!(error instanceof LedgerError) || !/^(unproven|invalid_r)/.test(error.code)) throw error;
      return book.done(`archive: ${error.code}${kindsOf(error)}`);
    }
    book.done('archive');
    if (this.#archiveUntil > 3) this.#archiveUntil--;
  }

  async softDelete(): Promise<void> {
    const { random, book } = this.#work;
    await sleep(random.between(1_000, 6_000));
    const user = LEAVING[this.#leaving++ % LEAVING.length] as string;
    const { isFinal } = await softDeleteUser(this.#ledger.pool, user);
    book.done(`soft delete: ${isFinal ? 'final' : 'not yet'}`);
    if (isFinal) book.note({ what: 'deleted', user });
  }

  /** Some ids twice: the second is refused and moves nothing. */
  async credit(): Promise<void> {
    const { random, book } = this.#work;
    const isRepeat = random.next() < 0.2 && this.#credited.length > 0;
    const id = isRepeat ? random.pick(this.#credited) : randomUUID();
    const user = random.pick(PEOPLE);
    const amount = random.between(1, 100_000_000);
    if (!isRepeat) book.note({ what: 'credit', id, user, amount, isAnswered: false });
    try {
      await addCredit(this.#ledger.pool, {
        id,
        kilo_user_id: user,
        usd: (amount / 1e6).toFixed(6),
      });
      if (isRepeat) book.problem(`credit ${id} was given twice`);
      book.note({ what: 'credit', id, user, amount, isAnswered: true });
      this.#credited.push(id);
      book.done('credit');
    } catch (error) {
      if (!isRepeat || (error as LedgerError).code !== 'idempotency_conflict') throw error;
      book.done('credit: idempotency_conflict');
    }
    await sleep(random.between(10, 200));
  }

  async key(): Promise<void> {
    const { random, book } = this.#work;
    const { pool } = this.#ledger;
    const user = random.pick(PEOPLE);
    const made = await createApiKey(pool, { kilo_user_id: user, scopes: ['usage:write'] });
    if ((await authenticateApiKey(pool, made.key))?.kilo_user_id !== user) {
      book.problem('a key that was just made does not authenticate');
    }
    await revokeApiKey(pool, made.id);
    forgetApiKey(pool, made.id);
    if (await authenticateApiKey(pool, made.key)) book.problem('a revoked key authenticates');
    book.done('key');
    await sleep(random.between(50, 500));
  }

  /** Transactions that a process prepared before it was killed. */
  async endPrepared(): Promise<void> {
    await sleep(1_000);
    const { rows } = await this.#ledger.pool.query<{ gid: string }>(
      `select gid from pg_prepared_xacts where prepared < now() - interval '3 seconds'`,
    );
    for (const { gid } of rows) await this.#ledger.pool.query(`rollback prepared '${gid}'`);
  }
}

/** What was in the way: most often days that the backfill's loop has made unbuilt since. */
function kindsOf({ details }: LedgerError): string {
  const blockers = (details.blockers ?? []) as readonly { kind: string }[];
  const kinds = [...new Set(blockers.map(({ kind }) => kind))].sort();
  if (kinds.length > 0) return ` (${kinds.join(', ')})`;
  return details.drift_keys === undefined ? '' : ' (drift found by its own proof)';
}

function toText(value: object): string {
  return JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each));
}
