import { startExpiring } from './accounts/grants/startExpiring.js';
import { finishScrubs } from './accounts/softDelete.js';
import { Alerts } from './alerts/ledgerAlerts.js';
import { FIRST_REST_MS, type StartTask, startTask } from './background.js';
import { BudgetFolder } from './budgets/folder.js';
import { Holds } from './budgets/holds.js';
import { BudgetKeeper } from './budgets/keeper.js';
import { startBeating, startBudgetFolds } from './budgets/keeperTasks.js';
import type { HoldIntent, HoldRequest } from './budgets/types.js';
import { CONNECTION_USES, Connections } from './connections.js';
import { DimensionFolder } from './counter/dimensionFolder.js';
import { balanceStatement } from './counter/settle.sql.js';
import { Settler } from './counter/settler.js';
import { Sweep } from './counter/sweep.js';
import { assertInSchema, urlsInSchema } from './db/ledgerSchema.js';
import { isKnownCluster, UNKNOWN_CLUSTER } from './db/migrate/generation.js';
import { startPreparingMonths } from './db/migrate/partitions/prepareMonths.js';
import { assertMigrated } from './db/migrate.js';
import { type Query, queryInTurns, queryOnPool, snapshotOnPool } from './db/query.js';
import { failureName, toLedgerError } from './db/sqlstate.js';
import { LedgerError } from './errors.js';
import { alone } from './ledgerParts.js';
import type { Ledger, PartOptions, WithoutBalance } from './ledgerTypes.js';
import { SILENT } from './log.js';
import { createMetrics } from './metrics.js';
import { toExactInteger } from './money.js';
import { type Cleaning, validateEvent } from './record/event.js';
import { recordExaUsage, validateExaUsage } from './record/exa.js';
import { GroupCommit } from './record/groupCommit.js';
import { LookupCache } from './record/lookups.js';
import { recordEach } from './record/recordEach.js';
import { type Lane, Recorder } from './record/recorder.js';
import { resolvePendingLookups } from './record/resolvePendingLookups.js';
import { Twins } from './record/twins.js';
import type { ExaUsage, RecordedEvent, RecordResult, UsageEvent } from './record/types.js';
import { Reports } from './report/report.js';
import { ShadowReads } from './report/shadow.js';
import { UsageReports } from './report/usage/usageReport.js';
import { startBackgroundVerify } from './rollup/backgroundVerify.js';
import { ReadModeFollower } from './rollup/readModeFollower.js';
import { SLOTS } from './schema/budgets.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from './schema/unsettled.js';
import { Tracing } from './tracing.js';

const DEFAULTS = { poolSize: 10, lockTimeoutMs: 5_000, statementTimeoutMs: 15_000 } as const;

const MAX_BATCH = 500;
const MAX_QUEUE = 100_000;
const HOUSEKEEPING_INTERVAL_MS = 5_000;
const SETTLE_INTERVAL_MS = 50;
/** Rows that others left unsettled; a process settles its own by itself. */
const SWEEP_INTERVAL_MS = 60_000;
const ROLLUP_INTERVAL_MS = 2_000;
/** Nothing reported waits for it. */
const ROLLUP_SWEEP_INTERVAL_MS = 30 * 60_000;

/**
 * Opens a ledger on a migrated database.
 * @throws LedgerError `invalid_request` without a database URL; `unavailable` when the database
 *   cannot be reached, or lacks migrations
 */
export async function createLedger(asked: PartOptions): Promise<Ledger> {
  const options = urlsInSchema(asked);
  const metrics = createMetrics();
  const log = options.log ?? SILENT;
  const tracing = options.tracer === undefined ? null : new Tracing(options.tracer);
  const named = options.preparedStatements ?? true;
  const groupCommit = options.groupCommit ?? true;
  const poolSize = options.poolSize ?? DEFAULTS.poolSize;
  const lanes = groupCommit ? Math.min(CONNECTION_USES.write.size, poolSize) : poolSize;
  const lookups = new LookupCache((error) => tell(error, 'lookups'));
  const connections = new Connections({
    databaseUrl: options.databaseUrl,
    replicaUrl: options.replicaUrl,
    poolSize,
    lockTimeoutMs: options.lockTimeoutMs ?? DEFAULTS.lockTimeoutMs,
    statementTimeoutMs: options.statementTimeoutMs ?? DEFAULTS.statementTimeoutMs,
    viaPooler: !named,
    onLost: () => recorder.forget(),
  });
  const [pool, readPool] = [connections.pool('ledger'), connections.pool('read')];
  const onWait = () => metrics.poolWaits.inc();
  const modes = new ReadModeFollower(queryOnPool(pool, named), metrics);
  /** Calls that have no answer yet. */
  let inFlight = 0;
  const settleQuery = queryOnPool(connections.pool('settle'), named);
  const settler = new Settler({
    query: settleQuery,
    inFlight: () => inFlight,
    settlesForAnswers: !(options.appendAlways ?? false),
    onSettled: (rows) => metrics.folded.inc(rows),
    onRetry: (cause) => onRetry(cause),
    onError: (error, payer) => tell(error, 'settle', { payer }),
    tracing,
  });
  const sweep = new Sweep(queryOnPool(connections.pool('sweep'), named), settler);
  const folder = new DimensionFolder({
    query: queryOnPool(connections.pool('rollup'), named),
    onError: (error, payer) => tell(error, 'rollup', { payer }),
  });
  const budgetFolder = new BudgetFolder({
    pool: connections.pool('budget'),
    named,
    onSettled: (...folded) => alerts.raise(...folded),
  });
  const keeper = new BudgetKeeper({
    query: queryOnPool(connections.pool('budget'), named),
    folder: budgetFolder,
    onError: (error, payer) => tell(error, 'budget', { payer }),
    owner: options.holdOwner,
  });
  const alerts = new Alerts({
    pool,
    folder: budgetFolder,
    query: () => queryOnPool(connections.pool('alert'), named),
    allowsPrivate: options.allowPrivateWebhooks ?? false,
    keptDays: options.keepAlertsDays,
    metrics,
    onUsed: (payer) => keeper.used(payer),
    onError: (error) => tell(error, 'alert_delivery'),
  });
  const holds = new Holds({
    query: queryInTurns(connections.pool('hold'), named, onWait),
    folder: budgetFolder,
    slot: Math.floor(Math.random() * SLOTS),
    onClosed: (payer) => keeper.closed(payer),
  });
  /** Behind a pooler connections carry no lock timeout, so the statements do. */
  const lane = (use: 'write' | 'aside' | 'exa', query: Query): Lane => ({
    query,
    boundsWaitMs: named ? null : CONNECTION_USES[use].lockTimeoutMs,
  });
  const aside = lane('aside', queryOnPool(connections.pool('aside'), named));
  const onRetry = (cause: string) => metrics.retries.inc({ cause });
  const twins = new Twins({
    waitMs: options.lockTimeoutMs ?? DEFAULTS.lockTimeoutMs,
    onHeld: (error) => onRetry(failureName(error)),
  });
  const recorder = new Recorder({
    lane: lane('write', queryOnPool(connections.pool('write', lanes), named, onWait)),
    aside,
    twins,
    lookups,
    look: settleQuery,
    metrics,
    tracing,
    isShard: () => (modes.status()?.shardName ?? null) !== null,
    onAppended: (event) => {
      if (event.cost !== 0) settler.appended(event);
      folder.appended(event);
      holds.noteUsage(event);
      alerts.noteUsage(event);
    },
  });
  const exa = {
    connections: lane('exa', queryOnPool(connections.pool('exa'), named)),
    aside,
    twins,
    onRetry,
  };
  const queue = new GroupCommit({
    write: (events) => recorder.write(events),
    writeAside: (event) => (recorder.standsAside(event) ? recorder.writeAside(event) : null),
    lanes,
    maxBatch: groupCommit ? MAX_BATCH : 1,
    maxQueue: MAX_QUEUE,
  });
  const shadow = new ShadowReads(
    queryOnPool(connections.pool('shadow'), false),
    (isEqual, example) => modes.note(isEqual, example),
    metrics,
  );
  const reports = new Reports(
    queryOnPool(readPool, named, onWait),
    () => modes.mode(),
    (mode, range) => shadow.sample(mode, range),
    metrics,
  );
  const reportPool = connections.pool('report');
  const usageReports = new UsageReports(
    queryInTurns(reportPool, named, onWait),
    snapshotOnPool(reportPool, named),
    metrics,
  );
  try {
    for (const each of [pool, readPool]) await assertInSchema(each, options.schema);
    await assertMigrated(pool);
    if (!(await isKnownCluster(pool))) log.warn({}, UNKNOWN_CLUSTER);
    await modes.start();
  } catch (error) {
    await connections.end();
    throw toLedgerError(error);
  }
  const tasks = startTasks();

  function tell(error: unknown, task: string, details: object = {}): void {
    metrics.backgroundErrors.inc({ task });
    log.error({ task, ...details, err: toLedgerError(error) }, `${task} failed; it is tried again`);
  }

  function startTasks(): { stop(): Promise<void> }[] {
    const start: StartTask = (task) =>
      startTask({ tracing, onError: (error, name) => tell(error, name), ...task });
    const housekeeping = start({
      name: 'housekeeping',
      intervalMs: HOUSEKEEPING_INTERVAL_MS,
      restsFirst: true,
      run: async () => {
        const housekeepingPool = connections.pool('housekeeping');
        await resolvePendingLookups(queryOnPool(housekeepingPool, named));
        await finishScrubs(housekeepingPool);
      },
    });
    const started = [housekeeping, startBeating(keeper, start)];
    const delivering = options.deliverAlerts ? alerts.startDelivering(start) : [];
    if (!(options.backgroundFold ?? true)) return [...started, ...delivering];
    const settling = start({
      name: 'settle',
      // Its statements have spans of their own.
      tracing: null,
      intervalMs: SETTLE_INTERVAL_MS,
      errorIntervalMs: 1_000,
      run: () => settler.settleDue(),
    });
    const sweeping = start({
      name: 'sweep',
      // Spread over processes that began together.
      intervalMs: () => SWEEP_INTERVAL_MS * (0.75 + Math.random() / 2),
      restsFirst: FIRST_REST_MS,
      run: () => sweep.pass(),
    });
    const folding = start({
      name: 'rollup',
      intervalMs: ROLLUP_INTERVAL_MS,
      errorIntervalMs: ROLLUP_INTERVAL_MS * 5,
      run: (signal) => folder.foldDue(signal),
    });
    const sweepingTails = start({
      name: 'rollup_sweep',
      intervalMs: () => ROLLUP_SWEEP_INTERVAL_MS * (0.75 + Math.random() / 2),
      // It looks at every payer: no start of a process has to pay for that.
      restsFirst: true,
      run: (signal) => folder.foldAll(signal),
    });
    const grants = connections.pool('grant');
    return [
      ...started,
      ...delivering,
      settling,
      sweeping,
      folding,
      sweepingTails,
      ...startBudgetFolds(keeper, start),
      alerts.startFollowing(start),
      startPreparingMonths({ url: options.databaseUrl, viaPooler: !named, start }),
      startExpiring({ pool: grants, named, withdrawals: budgetFolder, start, tell }),
    ];
  }

  const verifying = options.backgroundVerify
    ? startBackgroundVerify({
        url: options.databaseUrl,
        viaPooler: !named,
        metrics,
        tracing,
        onError: tell,
      })
    : null;

  let closing: Promise<void> | null = null;
  let onIdle: (() => void) | null = null;

  /** Counts an outcome and keeps `close` from overtaking it. */
  async function track<T extends { status: string }>(kind: string, run: () => Promise<T>) {
    if (closing) throw new LedgerError('unavailable', 'the ledger is closing');
    const startedAt = performance.now();
    inFlight++;
    try {
      const result = await run();
      metrics.events.inc({ kind, outcome: result.status });
      return result;
    } catch (error) {
      const ledgerError = toLedgerError(error);
      metrics.events.inc({ kind, outcome: 'rejected' });
      metrics.rejections.inc({ code: ledgerError.code });
      throw ledgerError;
    } finally {
      inFlight--;
      metrics.recordLatency.observe((performance.now() - startedAt) / 1_000);
      if (inFlight === 0) onIdle?.();
    }
  }

  function clean<T>(validate: (cleaning: Cleaning) => T): T {
    const cleaning: Cleaning = { nulBytesRemoved: 0 };
    const value = validate(cleaning);
    if (cleaning.nulBytesRemoved > 0) metrics.nulBytesRemoved.inc(cleaning.nulBytesRemoved);
    return value;
  }

  /** The event is recorded by now: whatever becomes of the balance, that is the answer (I9). */
  async function withBalance(
    recorded: RecordedEvent,
    payer: { kilo_user_id: string; organization_id: string | null },
  ): Promise<RecordResult> {
    const balance = await settler.balance(payer);
    return {
      ...recorded,
      new_microdollars_used: balance === null ? null : toExactInteger(balance),
    };
  }

  function recordUsage(event: UsageEvent): Promise<RecordResult>;
  function recordUsage(event: UsageEvent, how: WithoutBalance): Promise<RecordedEvent>;
  function recordUsage(event: UsageEvent, how?: WithoutBalance): Promise<RecordedEvent> {
    return track('usage', async () => {
      const valid = clean((cleaning) => validateEvent(event, cleaning));
      const recorded = await write(valid);
      return how?.balance === false ? recorded : await withBalance(recorded, valid);
    });
  }

  function write(valid: ReturnType<typeof validateEvent>): Promise<RecordedEvent> {
    const run = () => queue.record(valid);
    return tracing === null ? run() : tracing.linked([valid.id], tracing.active(), run);
  }

  const recordUsageBatch = (events: readonly UsageEvent[], how?: WithoutBalance) =>
    recordEach(events, (event) => recordUsage(event, how as WithoutBalance));

  function recordExa(usage: ExaUsage): Promise<RecordResult> {
    return track('exa', async () => {
      const valid = clean((cleaning) => validateExaUsage(usage, cleaning));
      const recorded = await recordExaUsage(valid, exa);
      settler.appended(valid);
      return withBalance(recorded, valid);
    });
  }

  const ledgerQuery = queryOnPool(pool, named);
  function hold(request: HoldRequest, isOwned: boolean, intent: HoldIntent | null = null) {
    return track('hold', async () => {
      const owner = isOwned ? (keeper.beatingOwner ?? (await keeper.own())) : null;
      return holds.hold(request, owner, { nulBytesRemoved: 0 }, intent);
    });
  }

  function settle(holdId: string, event: UsageEvent): Promise<RecordResult> {
    return track('usage', async () => {
      const cleaning: Cleaning = { nulBytesRemoved: 0 };
      const valid = await holds.settling(holdId, event, cleaning);
      if (cleaning.nulBytesRemoved > 0) metrics.nulBytesRemoved.inc(cleaning.nulBytesRemoved);
      const recorded = await holds.record(valid, event, write);
      return await withBalance(recorded, valid);
    });
  }

  async function readBalance(scope: PayerScope, id: string) {
    try {
      const [row] = await ledgerQuery<{ balance: string }>(balanceStatement(scope, id));
      return row ? toExactInteger(row.balance) : null;
    } catch (error) {
      throw toLedgerError(error);
    }
  }

  async function close(): Promise<void> {
    if (inFlight > 0) {
      await new Promise<void>((resolve) => {
        onIdle = resolve;
      });
    }
    await queue.drain();
    if (options.backgroundFold ?? true) await settler.flush().catch(() => {});
    await Promise.all([...tasks, verifying, shadow, modes].map((each) => each?.stop()));
    await keeper.end().catch(() => {});
    await connections.end();
  }

  return alone({
    metrics,
    log,
    tracing,
    databaseUrl: options.databaseUrl,
    viaPooler: !named,
    pool,
    readPool,
    get backlog() {
      return settler.backlog;
    },
    recordUsage,
    recordUsageBatch: recordUsageBatch as Ledger['recordUsageBatch'],
    recordExaUsage: recordExa,
    hold: (request, intent) => hold(request, true, intent),
    holdForClient: (request) => hold(request, false),
    settle,
    extend: (holdId, amount) => track('extend', () => holds.extend(holdId, amount)),
    release: (holdId) => track('release', () => holds.release(holdId)),
    budgetFolder,
    alertStore: alerts.store,
    findHolder: (holdId) => holds.findHolder(holdId),
    async keepBudgets() {
      await keeper.foldDue(undefined, true);
      await keeper.sweep();
    },
    getAverageMonthlyUsageLast3Months: (query) => reports.getAverageMonthlyUsageLast3Months(query),
    getDailyUsage: async (query) => (await reports.getDailyUsage(query)).days,
    getDailyUsageWithSource: (query) => reports.getDailyUsage(query),
    getUsageReport: (query) => usageReports.report(query),
    getReadMode: () => modes.status(),
    getUserBalance: (id) => readBalance(USER_SCOPE, id),
    getOrganizationBalance: (id) => readBalance(ORGANIZATION_SCOPE, id),
    settleOwn: () => settler.flush(),
    async fold() {
      try {
        await resolvePendingLookups(queryOnPool(connections.pool('housekeeping'), named));
        const report = await sweep.foldAll();
        await folder.foldAll();
        return report;
      } catch (error) {
        throw toLedgerError(error);
      }
    },
    async getPendingStatus() {
      try {
        return await sweep.status();
      } catch (error) {
        throw toLedgerError(error);
      }
    },
    close() {
      closing ??= close();
      return closing;
    },
  });
}
