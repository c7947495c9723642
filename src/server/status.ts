import type { Counter } from 'prom-client';
import type { Ledger, PendingStatus } from '../ledgerTypes.js';
import { readPackageVersion } from '../packageFiles.js';
import { isReached } from '../shards/parts.js';
import { cached, withTimeLimit } from './cached.js';
import { toErrorBody } from './errors.js';
import type { ServerOptions } from './options.js';
import { createServiceProbe, type DatabaseState, type ServiceState } from './readiness.js';

export interface OperationsStatus {
  version: string;
  /** Seconds. */
  uptimeSeconds: number;
  isShuttingDown: boolean;
  database: DatabaseState;
  /** Null: it is one database. */
  shards: ServiceState['shards'];
  readMode: DatabaseState['readMode'];
  /** Null when it could not be had. */
  pending: PendingStatus | null;
  /** Of this process since it started, by kind and outcome. */
  events: { kind: string; outcome: string; count: number }[];
  rejections: { code: string; count: number }[];
  pool: { total: number; idle: number; waiting: number };
  /** What the other parts of the service add, by name. */
  parts: Record<string, unknown>;
}

const PART_LIMIT_MS = 3_000;
const PENDING_TTL_MS = 1_000;

/** What `operations.status` answers. Never fails: what cannot be had is null, with its reason. */
export function createStatus(
  options: Pick<ServerOptions, 'statusParts' | 'version'> & { ledger: Ledger },
  readinessTimeoutMs: number,
  isShuttingDown: () => boolean,
): () => Promise<OperationsStatus> {
  const { ledger } = options;
  const probe = createServiceProbe(ledger, readinessTimeoutMs);
  const readPending = cached(() => ledger.getPendingStatus(), PENDING_TTL_MS);
  const version = options.version ?? readPackageVersion();
  return async () => {
    const { database, shards } = await probe();
    const pending = database.isReachable
      ? await withTimeLimit(readPending(), PART_LIMIT_MS, 'took too long').catch(() => null)
      : null;
    const parts = reachedParts(ledger);
    // Of shards also what reached none of them.
    const metrics = new Set([ledger, ...parts].map((part) => part.metrics));
    const events = await sumCounters([...metrics].map((each) => each.events));
    const rejections = await sumCounters([...metrics].map((each) => each.rejections));
    return {
      version,
      uptimeSeconds: Math.round(process.uptime()),
      isShuttingDown: isShuttingDown(),
      database,
      shards,
      readMode: database.readMode,
      pending,
      events: events.map(({ labels, value }) => ({
        kind: String(labels.kind),
        outcome: String(labels.outcome),
        count: value,
      })),
      rejections: rejections.map(({ labels, value }) => ({
        code: String(labels.code),
        count: value,
      })),
      pool: {
        total: sumOf(parts, ({ pool }) => pool.totalCount),
        idle: sumOf(parts, ({ pool }) => pool.idleCount),
        waiting: sumOf(parts, ({ pool }) => pool.waitingCount),
      },
      parts: await readParts(options.statusParts ?? {}),
    };
  };
}

const reachedParts = ({ parts }: Ledger): Ledger[] =>
  parts.flatMap(({ ledger }) => (isReached(ledger) ? [ledger] : []));

const sumOf = (parts: readonly Ledger[], read: (part: Ledger) => number): number =>
  parts.reduce((sum, part) => sum + read(part), 0);

type Counted = Awaited<ReturnType<Counter['get']>>['values'][number];

/** Series of the same labels as one. */
async function sumCounters(counters: readonly Counter[]): Promise<Counted[]> {
  const sums = new Map<string, Counted>();
  for (const counter of counters) {
    for (const { labels, value } of (await counter.get()).values) {
      const { shard: _, ...own } = labels;
      const key = JSON.stringify(own);
      sums.set(key, { labels: own, value: value + (sums.get(key)?.value ?? 0) });
    }
  }
  return [...sums.values()];
}

async function readParts(
  parts: Readonly<Record<string, () => Promise<unknown>>>,
): Promise<Record<string, unknown>> {
  const entries = Object.entries(parts).map(async ([name, read]) => {
    try {
      return [name, await withTimeLimit(read(), PART_LIMIT_MS, 'took too long')] as const;
    } catch (error) {
      return [name, { error: toErrorBody(error) }] as const;
    }
  });
  return Object.fromEntries(await Promise.all(entries));
}
