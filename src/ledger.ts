import { finishScrubs } from './accounts/softDelete.js';
import { Fold, startBackgroundFold } from './counter/fold.js';
import { assertMigrated } from './db/migrate.js';
import { createPool, READ_SETTINGS, WRITE_SETTINGS } from './db/pool.js';
import { queryOnPool } from './db/query.js';
import { toLedgerError } from './db/sqlstate.js';
import { LedgerError } from './errors.js';
import type { Ledger, LedgerOptions } from './ledgerTypes.js';
import { createMetrics } from './metrics.js';
import { toSafeInteger } from './money.js';
import { type Cleaning, validateEvent } from './record/event.js';
import { recordExaUsage, validateExaUsage } from './record/exa.js';
import { GroupCommit } from './record/groupCommit.js';
import { LookupCache } from './record/lookups.js';
import { Recorder } from './record/recorder.js';
import { resolvePendingLookups } from './record/resolvePendingLookups.js';
import type { BatchResult, ExaUsage, RecordResult, UsageEvent } from './record/types.js';
import { Reports } from './report/report.js';
import { ShadowReads } from './report/shadow.js';
import { startBackgroundVerify } from './rollup/backgroundVerify.js';
import { ReadModeFollower } from './rollup/readModeFollower.js';

const DEFAULTS = {
  poolSize: 10,
  lockTimeoutMs: 5_000,
  statementTimeoutMs: 15_000,
  exaFreeAllowanceMicrodollars: 10_000_000,
} as const;

/** Statements of group commit in flight at once. */
const LANES = 4;
const MAX_BATCH = 500;
const MAX_QUEUE = 100_000;
/** Lookups left as text, and soft deletes that waited for writes in flight. */
const HOUSEKEEPING_INTERVAL_MS = 5_000;
const SHADOW_BUDGET_MS = 2_000;

/**
 * Opens a ledger on a migrated database. Writes, the fold and everything else have pools of their
 * own, so that no kind of work can starve another of connections.
 * @throws LedgerError `unavailable` when the database cannot be reached, or lacks migrations
 */
export async function createLedger(options: LedgerOptions): Promise<Ledger> {
  const metrics = createMetrics();
  const lockTimeoutMs = options.lockTimeoutMs ?? DEFAULTS.lockTimeoutMs;
  const statementTimeoutMs = options.statementTimeoutMs ?? DEFAULTS.statementTimeoutMs;
  const named = options.preparedStatements ?? true;
  const groupCommit = options.groupCommit ?? true;
  const poolSize = options.poolSize ?? DEFAULTS.poolSize;
  const onWait = () => metrics.poolWaits.inc();
  const open = (
    use: string,
    size: number,
    settings: readonly string[],
    url = options.databaseUrl,
  ) =>
    createPool({
      url,
      size,
      applicationName: `microdollar ${use}`,
      lockTimeoutMs,
      statementTimeoutMs,
      settings,
      viaPooler: !named,
    });

  const writePool = open(
    'write',
    groupCommit ? Math.min(LANES, poolSize) : poolSize,
    WRITE_SETTINGS,
  );
  const foldPool = open('fold', 1, ['enable_seqscan=off', 'enable_bitmapscan=off', 'jit=off']);
  const pool = open('ledger', poolSize, READ_SETTINGS);
  const readPool = options.replicaUrl
    ? open('read', poolSize, READ_SETTINGS, options.replicaUrl)
    : pool;
  // Comparisons scan raw usage: a connection of their own, and a budget of time.
  const shadowPool = createPool({
    url: options.replicaUrl ?? options.databaseUrl,
    size: 1,
    applicationName: 'microdollar shadow',
    lockTimeoutMs,
    statementTimeoutMs: SHADOW_BUDGET_MS,
    settings: ['jit=off'],
    viaPooler: !named,
  });
  const pools = new Set([writePool, foldPool, pool, readPool, shadowPool]);
  const modes = new ReadModeFollower(queryOnPool(pool, false), metrics);
  try {
    await assertMigrated(pool);
    await modes.start();
  } catch (error) {
    await Promise.all([...pools].map((each) => each.end()));
    throw toLedgerError(error);
  }

  const writeQuery = queryOnPool(writePool, named, onWait);
  const foldQuery = queryOnPool(foldPool, false);
  const readQuery = queryOnPool(readPool, named, onWait);
  const inPlace = !(options.appendAlways ?? false);
  const recorder = new Recorder(writeQuery, new LookupCache(), metrics, inPlace);
  const queue = new GroupCommit({
    write: (events) => recorder.write(events),
    lanes: groupCommit ? Math.min(LANES, poolSize) : poolSize,
    maxBatch: groupCommit ? MAX_BATCH : 1,
    maxQueue: MAX_QUEUE,
  });
  const shadow = new ShadowReads(
    queryOnPool(shadowPool, false),
    (isEqual, example) => modes.note(isEqual, example),
    metrics,
  );
  const reports = new Reports(
    readQuery,
    () => modes.mode(),
    (mode, range) => shadow.sample(mode, range),
    metrics,
  );
  const fold = new Fold(foldQuery, metrics);
  const background =
    (options.backgroundFold ?? true)
      ? startBackgroundFold(fold, metrics, { busyIntervalMs: 50, idleIntervalMs: 250 })
      : null;
  const verifying = options.backgroundVerify
    ? startBackgroundVerify(options.databaseUrl, metrics)
    : null;
  let housekeeping: Promise<unknown> = Promise.resolve();
  const housekeepingTimer = setInterval(() => {
    housekeeping = resolvePendingLookups(foldQuery)
      .then(() => finishScrubs(foldPool))
      .catch(() => metrics.foldErrors.inc());
  }, HOUSEKEEPING_INTERVAL_MS);
  housekeepingTimer.unref();

  let closing: Promise<void> | null = null;
  const inFlight = new Set<Promise<unknown>>();

  /** Counts an outcome and keeps `close` from overtaking it. */
  async function track<T extends { status: string }>(kind: string, run: () => Promise<T>) {
    if (closing) throw new LedgerError('unavailable', 'the ledger is closing');
    const stop = metrics.recordLatency.startTimer();
    const work = run();
    inFlight.add(work);
    try {
      const result = await work;
      metrics.events.inc({ kind, outcome: result.status });
      return result;
    } catch (error) {
      const ledgerError = toLedgerError(error);
      metrics.events.inc({ kind, outcome: 'rejected' });
      metrics.rejections.inc({ code: ledgerError.code });
      throw ledgerError;
    } finally {
      inFlight.delete(work);
      stop();
    }
  }

  async function clean<T>(validate: (cleaning: Cleaning) => T): Promise<T> {
    const cleaning: Cleaning = { nulBytesRemoved: 0 };
    const value = validate(cleaning);
    if (cleaning.nulBytesRemoved > 0) metrics.nulBytesRemoved.inc(cleaning.nulBytesRemoved);
    return value;
  }

  function recordUsage(event: UsageEvent): Promise<RecordResult> {
    return track('usage', async () =>
      queue.record(await clean((cleaning) => validateEvent(event, cleaning))),
    );
  }

  async function recordUsageBatch(events: readonly UsageEvent[]): Promise<BatchResult[]> {
    const settled = await Promise.allSettled(events.map((event) => recordUsage(event)));
    return settled.map((outcome, index) =>
      outcome.status === 'fulfilled'
        ? outcome.value
        : { id: events[index]?.id ?? null, status: 'rejected', error: outcome.reason as Error },
    );
  }

  function recordExa(usage: ExaUsage): Promise<RecordResult> {
    return track('exa', async () => {
      const valid = await clean((cleaning) => validateExaUsage(usage, cleaning));
      const allowance =
        options.exaFreeAllowanceMicrodollars ?? DEFAULTS.exaFreeAllowanceMicrodollars;
      const { appended, ...result } = await recordExaUsage(
        writeQuery,
        valid,
        allowance,
        inPlace,
        (cause) => metrics.retries.inc({ cause }),
      );
      if (appended && inPlace) metrics.contendedAppends.inc();
      return result;
    });
  }

  async function readBalance(text: string, id: string): Promise<number | null> {
    try {
      const result = await pool.query<{ balance: string | null }>(text, [id]);
      const balance = result.rows[0]?.balance ?? null;
      return balance === null ? null : toSafeInteger(balance);
    } catch (error) {
      throw toLedgerError(error);
    }
  }

  async function close(): Promise<void> {
    while (inFlight.size > 0) await Promise.allSettled([...inFlight]);
    await queue.drain();
    clearInterval(housekeepingTimer);
    await housekeeping;
    await background?.stop();
    await Promise.all([verifying?.stop(), shadow.stop(), modes.stop()]);
    await Promise.all([...pools].map((each) => each.end()));
  }

  return {
    metrics,
    pool,
    readPool,
    recordUsage,
    recordUsageBatch,
    recordExaUsage: recordExa,
    getAverageMonthlyUsageLast3Months: (query) => reports.getAverageMonthlyUsageLast3Months(query),
    getDailyUsage: async (query) => (await reports.getDailyUsage(query)).days,
    getDailyUsageWithSource: (query) => reports.getDailyUsage(query),
    getReadMode: () => modes.status(),
    getUserBalance: (id) =>
      readBalance('/* balance.user */ select microdollar_user_balance($1::text) as balance', id),
    getOrganizationBalance: (id) =>
      readBalance(
        '/* balance.organization */ select microdollar_organization_balance($1::uuid) as balance',
        id,
      ),
    async fold() {
      try {
        await resolvePendingLookups(foldQuery);
        return await fold.drainAll();
      } catch (error) {
        throw toLedgerError(error);
      }
    },
    getPendingStatus: () => fold.status(),
    close() {
      closing ??= close();
      return closing;
    },
  };
}
