import type { Ledger, PendingStatus } from '../ledgerTypes.js';
import { cached, withTimeLimit } from './cached.js';
import { toErrorBody } from './errors.js';
import type { ServerOptions } from './options.js';
import { readPackageVersion } from './packageVersion.js';
import { createDatabaseProbe, type DatabaseState } from './readiness.js';

export interface OperationsStatus {
  version: string;
  /** Seconds. */
  uptimeSeconds: number;
  isShuttingDown: boolean;
  database: DatabaseState;
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
  const probe = createDatabaseProbe(ledger, readinessTimeoutMs);
  const readPending = cached(() => ledger.getPendingStatus(), PENDING_TTL_MS);
  const version = options.version ?? readPackageVersion();
  return async () => {
    const database = await probe();
    const pending = database.isReachable
      ? await withTimeLimit(readPending(), PART_LIMIT_MS, 'took too long').catch(() => null)
      : null;
    const events = await ledger.metrics.events.get();
    const rejections = await ledger.metrics.rejections.get();
    return {
      version,
      uptimeSeconds: Math.round(process.uptime()),
      isShuttingDown: isShuttingDown(),
      database,
      readMode: database.readMode,
      pending,
      events: events.values.map(({ labels, value }) => ({
        kind: String(labels.kind),
        outcome: String(labels.outcome),
        count: value,
      })),
      rejections: rejections.values.map(({ labels, value }) => ({
        code: String(labels.code),
        count: value,
      })),
      pool: {
        total: ledger.pool.totalCount,
        idle: ledger.pool.idleCount,
        waiting: ledger.pool.waitingCount,
      },
      parts: await readParts(options.statusParts ?? {}),
    };
  };
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
