import type { Logger } from 'pino';
import { startTask } from '../background.js';
import { queryOnPool } from '../db/query.js';
import type { UnpricedPosition } from '../gateway/prices/index.js';
import type { Ledger } from '../ledgerTypes.js';
import type { ServerPlugin } from '../server/plugins.js';
import { isReached } from '../shards/parts.js';
import type { Environment } from './environment.js';

/** Between two looks for usage that had no price when it came and has one now. */
const LATE_PRICING_INTERVAL_MS = 5 * 60_000;

/** Of the time to stop, what is left for rows, journal and database after the last answer. */
const SETTLING_SHARE = 0.2;
const MAX_SETTLING_MS = 5_000;

/** Of the time to stop, until when answers and other requests may end by themselves, ms. */
export function timeToEndMs(shutdownMs: number): number {
  return Math.floor(shutdownMs - Math.min(MAX_SETTLING_MS, shutdownMs * SETTLING_SHARE));
}

export interface MeteringGateway {
  plugin: ServerPlugin;
  /** For `operations.status` and the console. */
  journalStatus(): Promise<unknown>;
  /** After the server, before the ledger. */
  close(): Promise<void>;
}

/** Before anything is opened or migrated. @throws LedgerError `invalid_request` naming what is wrong */
export async function requireGatewaySettings(environment: Environment): Promise<void> {
  const { checkGatewaySettings } = await import('../gateway/index.js');
  checkGatewaySettings(settingsOf(environment));
}

function settingsOf(environment: Environment) {
  return {
    upstreams: environment.upstreams,
    trustedProxies: environment.trustedProxies,
    ownPricesFile: environment.pricesFile,
    upstreamsFile: environment.gateway.upstreamsFile,
  };
}

/** The gateway of `start`, from the environment, with late pricing in the background. */
export async function openMeteringGateway(
  environment: Environment,
  ledger: Ledger,
  databaseUrl: string,
  log: Logger,
): Promise<MeteringGateway> {
  // Loaded here: no other command needs it.
  const { openGateway } = await import('../gateway/index.js');
  const { priceUnpriced } = await import('../gateway/prices/index.js');
  const gateway = await openGateway({
    ledger,
    databaseUrl,
    dataDir: environment.dataDir,
    preparedStatements: environment.pooler === null,
    log,
    ...settingsOf(environment),
    maxInFlightPerPayer: environment.gateway.maxInFlight,
    onAbort: environment.gateway.onAbort,
    holds: environment.gateway.holds,
    onOutgrown: environment.gateway.onOutgrown,
    corsOrigins: environment.gateway.corsOrigins,
    traces: environment.gateway.traces,
    limits: {
      shutdownTimeoutMs: timeToEndMs(environment.shutdownMs),
      drainsPerPayer: environment.gateway.maxInFlight,
    },
  });
  /** What nobody has a price for keeps no later usage from its turn. */
  const places = new Map<string | null, UnpricedPosition | null>();
  const latePricing = startTask({
    name: 'late_pricing',
    run: async (signal) => {
      for (const { name, ledger: part } of ledger.parts) {
        if (!isReached(part)) continue;
        const query = queryOnPool(part.pool, false);
        const after = places.get(name) ?? null;
        const { pricer } = gateway;
        const { priced, next } = await priceUnpriced({ query, ledger, pricer, after, signal });
        places.set(name, next);
        if (priced > 0) log.info({ priced }, 'priced usage that had no price when it came');
      }
    },
    intervalMs: LATE_PRICING_INTERVAL_MS,
    restsFirst: true,
    tracing: ledger.tracing,
    onError: (error, task) => {
      ledger.metrics.backgroundErrors.inc({ task });
      log.warn({ reason: (error as Error).message }, 'late pricing failed');
    },
  });
  return {
    plugin: gateway.plugin,
    async journalStatus() {
      const status = gateway.status();
      return { ...status, depth: status.depthRecords };
    },
    async close() {
      await latePricing.stop();
      await gateway.close();
    },
  };
}
