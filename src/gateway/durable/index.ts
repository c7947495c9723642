import os from 'node:os';
import { beatStatement } from '../../db/beat.sql.js';
import { createPool, WRITE_SETTINGS } from '../../db/pool.js';
import { queryOnPool } from '../../db/query.js';
import { DeadOwners } from '../../deadOwners.js';
import { DeadLetterFile } from '../../journal/deadLetters.js';
import { nodeFileSystem } from '../../journal/fileSystem.js';
import { Journal } from '../../journal/journal.js';
import { claimSlot, journalRoot, type Slot } from '../../journal/slots.js';
import { Accounts } from './accountsCache.js';
import { DatabaseGate } from './databaseGate.js';
import { createInFlightLimit } from './inFlight.js';
import { IntentStore } from './intentStore.js';
import { deleteInstanceStatement } from './intents.sql.js';
import { reportDamage, reportOpening } from './journalReports.js';
import { Maintenance } from './maintenance.js';
import { createDurableMetrics } from './metrics.js';
import type { DurabilityOptions, Log } from './options.js';
import type { DatedUsage } from './records.js';
import { LedgerHolds } from './requestHolds.js';
import { ResponseStore } from './responseStore.js';
import type {
  AccountsCache,
  InFlightLimit,
  Payer,
  RequestHolds,
  ResponseFollowing,
  UsageSink,
  UsageSinkStatus,
} from './types.js';
import { RESERVE_BYTES, RequestSink } from './usageSink.js';

/** What the gateway stands on. */
export interface Durability {
  sink: UsageSink;
  accounts: AccountsCache;
  inFlight: InFlightLimit;
  responses: ResponseFollowing;
  holds: RequestHolds;
  /** Drains and settles now, as far as the database allows; for commands and tests. */
  maintain(): Promise<void>;
  /** As `sink.close()`: after the server, before the ledger. */
  close(): Promise<void>;
}

const SILENT: Log = { info() {}, warn() {}, error() {} };
/** To the database, beside those of the ledger. */
export const GATEWAY_CONNECTIONS = 3;
/** Of one statement's time, for a hold. */
const HOLD_TIMEOUTS = 5;
/** Of one statement's time, for a drain that meets a shard which does not answer. */
const SHARD_TIMEOUTS = 5;
/** For a drain that is waiting for the database when the process is to end. */
const CLOSE_WAIT_MS = 10_000;

/**
 * Opens the journal of this process and begins to drain and settle what earlier ones left. The
 * database may be away: requests then go to the journal.
 * @throws LedgerError `unavailable`: every journal of the data directory is held; or the system's
 *   error when the directory cannot be written
 */
export async function openDurability(options: DurabilityOptions): Promise<Durability> {
  const root = journalRoot(options.dataDir);
  const fileSystem = options.fileSystem ?? nodeFileSystem;
  const slot = await claimSlot(root, fileSystem);
  try {
    return await open(options, root, slot);
  } catch (error) {
    slot.release();
    throw error;
  }
}

async function open(options: DurabilityOptions, root: string, slot: Slot): Promise<Durability> {
  const { ledger } = options;
  const log = options.log ?? SILENT;
  const fileSystem = options.fileSystem ?? nodeFileSystem;
  const databaseTimeoutMs = options.databaseTimeoutMs ?? 2_000;
  const maintenanceIntervalMs = options.maintenanceIntervalMs ?? 5_000;
  const owner = await slot.addOwner();
  let deadLetterCount = 0;

  const journal = await Journal.open({
    directory: slot.directory,
    fileSystem,
    isOwner: slot.isOwner,
    ...(options.maxJournalBytes === undefined ? {} : { maxBytes: options.maxJournalBytes }),
    ...(options.segmentBytes === undefined ? {} : { segmentBytes: options.segmentBytes }),
    onSync: (_, durationMs) => metrics.journalSync.observe(durationMs / 1000),
    onDamage: (damage) => reportDamage(damage, { slot: slot.index, metrics, log }),
  });
  const status = (): UsageSinkStatus => {
    const headroomBytes = (requests.openIntents + 1) * RESERVE_BYTES;
    const { depthRecords, bytes, oldestAgeMs, full, failure } = journal.status(headroomBytes);
    return {
      depthRecords,
      bytes,
      oldestAgeMs,
      full,
      journalFailure: failure,
      deadLetters: deadLetterCount,
      databaseAvailable: gate.isAvailable,
    };
  };
  const metrics = createDurableMetrics(options.registry ?? ledger.metrics.registry, () => ({
    ...status(),
    openIntents: requests.openIntents,
  }));
  const pool = createPool({
    url: options.databaseUrl,
    size: GATEWAY_CONNECTIONS,
    applicationName: 'microdollar gateway',
    lockTimeoutMs: databaseTimeoutMs,
    statementTimeoutMs: Math.max(databaseTimeoutMs, 5_000),
    connectTimeoutMs: databaseTimeoutMs,
    settings: WRITE_SETTINGS,
    viaPooler: options.preparedStatements === false,
  });
  const query = queryOnPool(pool, options.preparedStatements ?? true);
  const beat = () => query(beatStatement(owner, os.hostname(), process.pid));
  const gate = new DatabaseGate({
    probe: beat,
    timeoutMs: databaseTimeoutMs,
    isOfShards: ledger.parts.length > 1,
    onChange: (isAvailable) => {
      deadOwners.startOver();
      if (isAvailable) {
        log.info({}, 'the database is back; draining the journal');
        maintenance.kick();
      } else log.error({}, 'the database is away; usage goes to the journal');
    },
  });
  const deadOwners = new DeadOwners(options.leaseMs ?? 10 * 60_000);
  const deadLetters = new DeadLetterFile<DatedUsage>(slot.directory, fileSystem);
  const store = new IntentStore(query, (id) => requests.isOpen(id));
  const responses = new ResponseStore(query, gate, (response, lookInSeconds) =>
    requests.follow(response, lookInSeconds),
  );
  const accounts = new Accounts({ ...options, gate });
  const holds = new LedgerHolds({
    owner,
    ledger,
    gate,
    timeoutMs: HOLD_TIMEOUTS * databaseTimeoutMs,
    store,
    log,
    isOpen: (id) => requests.isOpen(id),
  });
  const context = {
    owner,
    root,
    slot,
    ledger,
    query,
    gate,
    store,
    responses,
    journal,
    deadLetters,
    metrics,
    log,
    fileSystem,
    deadOwners,
    beat,
    shardTimeoutMs: SHARD_TIMEOUTS * databaseTimeoutMs,
    price: options.price ?? (() => null),
    isStillOpen: (intentOwner: string, id: string) => intentOwner !== owner || requests.isOpen(id),
    onDrained: (usageOwner: string, event: DatedUsage) => {
      if (usageOwner === owner) accounts.noteDrained(payerOf(event), event.cost);
    },
  };
  const requests = new RequestSink({
    ...context,
    onSettled: (event, { durable, result }) => {
      if (durable === 'dead_letter' || result?.status === 'duplicate') return;
      accounts.noteSpent(payerOf(event), event.cost, durable);
    },
    onJournal: () => {
      if (gate.isAvailable || journal.status().failure !== null) maintenance.kickSoon();
    },
  });
  const maintenance = new Maintenance({
    ...context,
    onDeadLetters: (count) => {
      deadLetterCount = count;
    },
  });
  reportOpening(journal, { slot: slot.index, metrics, log });
  maintenance.start(maintenanceIntervalMs);

  let closing: Promise<void> | null = null;
  async function close(): Promise<void> {
    await requests.close();
    await withinTime(holds.close(), CLOSE_WAIT_MS);
    gate.stop();
    await withinTime(maintenance.stop(), CLOSE_WAIT_MS);
    await withinTime(store.endRemovals(), CLOSE_WAIT_MS);
    if (gate.isAvailable && requests.openIntents === 0 && journal.status().depthRecords === 0) {
      await query(deleteInstanceStatement(owner))
        .then(() => slot.forgetOwner(owner))
        .catch(() => {});
    }
    await journal.close();
    slot.release();
    await pool.end();
  }

  return {
    sink: {
      begin: (intent) => requests.begin(intent),
      adopt: (id) => requests.adopt(id),
      settle: (event) => requests.settle(event),
      abandon: (id) => requests.abandon(id),
      status,
      close: closeOnce,
    },
    accounts,
    inFlight: createInFlightLimit(options.maxInFlightPerPayer),
    responses,
    holds,
    maintain: () => maintenance.runNow(),
    close: closeOnce,
  };

  function closeOnce(): Promise<void> {
    closing ??= close();
    return closing;
  }
}

function payerOf({ kilo_user_id, organization_id }: DatedUsage): Payer {
  return { kilo_user_id, organization_id: organization_id ?? null };
}

async function withinTime(work: Promise<unknown>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  await Promise.race([work, limit]);
  clearTimeout(timer);
}

export type { IntentPrice, PriceIntent } from './estimate.js';
export type { DurabilityOptions } from './options.js';
export { type RetryReport, retryDeadLetters } from './retryDeadLetters.js';
export type * from './types.js';
