import { startTask } from '../background.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { Ledger, LedgerOptions, NamedPayer } from '../ledgerTypes.js';
import { SILENT } from '../log.js';
import { Tracing } from '../tracing.js';
import { assembleShards } from './assembly.js';
import { Moves } from './move/moves.js';
import { askEach, standIn } from './scatter.js';
import type { Shard } from './shard.js';
import { createShardMetrics } from './shardMetrics.js';
import { shardReads } from './shardReads.js';
import { readShards, type ShardOptions } from './shardsFile.js';
import { shardWrites } from './shardWrites.js';

/** Options of a ledger, for each of its shards. */
export interface ShardedLedgerOptions
  extends Omit<LedgerOptions, 'databaseUrl' | 'replicaUrl' | 'schema'> {
  /** The first is home: it has the directory. */
  shards: readonly ShardOptions[];
}

const OPEN_INTERVAL_MS = 1_000;
const FENCE_INTERVAL_MS = 5_000;

/**
 * Opens a ledger of shards (README.md): the same interface, each payer on one of several ordinary ledgers. A
 * shard that is away is opened when it is back, and takes down its payers alone; home must be there at the
 * start.
 * @throws LedgerError `invalid_request` naming what is wrong with the shards; `unavailable` while home is
 *   away
 */
export async function createShardedLedger(options: ShardedLedgerOptions): Promise<Ledger> {
  const { shards: given, ...shared } = options;
  const named = readShards(given);
  const log = options.log ?? SILENT;
  const { shards, home, directory, router } = assembleShards(named, shared, (error) =>
    tell(error, 'shard_directory'),
  );
  const metrics = createShardMetrics(shards);
  const tell = (error: unknown, task: string) => {
    metrics.backgroundErrors.inc({ task });
    log.error({ task, err: toLedgerError(error) }, `${task} failed; it is tried again`);
  };
  try {
    // Home first: what it says of the installation is what the others are judged by.
    await home.open();
    await directory.refresh();
    for (const { name, error } of await askEach(shards, async () => {})) {
      if (error === undefined) continue;
      if (error.code !== 'unavailable') throw error;
      log.error({ shard: name, err: error }, 'a shard is away; it is opened when it is back');
    }
  } catch (error) {
    await Promise.all(shards.map((shard) => shard.close()));
    throw error;
  }
  const opening = startTask({
    name: 'shard_open',
    intervalMs: OPEN_INTERVAL_MS,
    restsFirst: true,
    run: async () => {
      const missing = shards.filter(({ ledger }) => ledger === null);
      for (const { name, error } of await askEach(missing, async () => {})) {
        if (error !== undefined) throw error;
        log.warn({ shard: name }, 'the shard is back');
      }
    },
    // That it is away was logged, and a refused one is told to whoever asks for it.
    onError: () => metrics.backgroundErrors.inc({ task: 'shard_open' }),
  });

  const lifting = startTask({
    name: 'shard_fences',
    intervalMs: FENCE_INTERVAL_MS,
    restsFirst: true,
    // Through a pooler in transaction mode nobody could tell whether the mover lives.
    run: async () => {
      if (options.preparedStatements ?? true) await liftAbandonedFences(shards);
    },
    onError: tell,
  });

  let inFlight = 0;
  let onIdle: (() => void) | null = null;
  let closing: Promise<void> | null = null;
  /** Keeps `close` from overtaking a call that waits for its payer. */
  async function track<T>(run: () => Promise<T>): Promise<T> {
    if (closing !== null) throw new LedgerError('unavailable', 'the ledger is closing');
    inFlight++;
    try {
      return await run();
    } finally {
      inFlight--;
      if (inFlight === 0) onIdle?.();
    }
  }

  async function close(): Promise<void> {
    if (inFlight > 0) {
      await new Promise<void>((resolve) => {
        onIdle = resolve;
      });
    }
    await Promise.all([opening.stop(), lifting.stop()]);
    await Promise.all(shards.map((shard) => shard.close()));
  }

  const context = { router, shards, metrics, track };
  const reads = shardReads(context);
  return withoutOwn({
    metrics,
    log,
    tracing: options.tracer === undefined ? null : new Tracing(options.tracer),
    viaPooler: !(options.preparedStatements ?? true),
    of: (payer: NamedPayer) => router.at(payer, async (ledger) => ledger),
    at: (payer, run) => track(() => router.at(payer, run)),
    get parts() {
      return shards.map((shard) => ({ name: shard.name, ledger: standIn(shard) }));
    },
    ...shardWrites(context),
    ...reads,
    get backlog() {
      return reads.backlog;
    },
    close() {
      closing ??= close();
      return closing;
    },
  });
}

/** Of payers that a mover left fenced when it died, on shards that are open. */
async function liftAbandonedFences(shards: readonly Shard[]): Promise<void> {
  const open = shards.flatMap(({ name, ledger }) => (ledger ? [{ name, pool: ledger.pool }] : []));
  const [home, ...others] = open;
  if (home?.name === shards[0]?.name && home) {
    await new Moves({ shards: [home, ...others] }).liftAbandoned();
  }
}

/** What only one database has. */
const OF_ONE = ['pool', 'readPool', 'databaseUrl', 'budgetFolder', 'alertStore'] as const;
type OfOne = (typeof OF_ONE)[number];

function withoutOwn(ledger: Omit<Ledger, OfOne>): Ledger {
  for (const name of OF_ONE) {
    Object.defineProperty(ledger, name, {
      get() {
        throw new LedgerError(
          'internal',
          `a ledger of shards has no ${name} of its own: ask ledger.of(payer), or each of ledger.parts`,
        );
      },
    });
  }
  return ledger as Ledger;
}
