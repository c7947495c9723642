import type { Registry } from 'prom-client';
import type { FileSystem } from '../../journal/fileSystem.js';
import type { Ledger } from '../../ledgerTypes.js';
import type { AccountsCacheOptions } from './accountsCache.js';
import type { PriceIntent } from './estimate.js';

/** The part of a pino logger that is used. */
export interface Log {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export interface DurabilityOptions
  extends Pick<AccountsCacheOptions, 'maxKeyAgeMs' | 'maxBalanceAgeMs' | 'balanceFreshMs'> {
  ledger: Ledger;
  /** The primary, as the ledger's. */
  databaseUrl: string;
  /** Holds `journal/`. */
  dataDir: string;
  /** Prices an intent whose usage was lost. Default: none is known (unpriced). */
  price?: PriceIntent;
  /** Default: the ledger's. */
  registry?: Registry;
  log?: Log;
  /** Of the journal. Default 256 MiB. */
  maxJournalBytes?: number;
  segmentBytes?: number;
  /** For one statement of a request; then the journal takes over. Default 2,000 ms. */
  databaseTimeoutMs?: number;
  /**
   * Heartbeat, drain, settling. Default 5,000 ms. Past 20,000 the journals of dead containers on the same
   * machine are not adopted.
   */
  maintenanceIntervalMs?: number;
  /**
   * For the heartbeat of another process to stand still before its intents are settled as
   * estimates. Own predecessors need none: their lock proves it. Default 10 min.
   */
  leaseMs?: number;
  /** Requests in flight per payer. Default 64. */
  maxInFlightPerPayer?: number;
  /** False for poolers in transaction mode, as for the ledger. Default true. */
  preparedStatements?: boolean;
  fileSystem?: FileSystem;
}
