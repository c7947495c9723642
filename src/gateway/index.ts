import type { ServerPlugin } from '../server/plugins.js';
import {
  type DurabilityOptions,
  type Intent,
  openDurability,
  type UsageSinkStatus,
} from './durable/index.js';
import { createPricer, type Pricer, priceIntent } from './prices/index.js';
import { ENDPOINTS } from './proxy/endpoints.js';
import type { GatewayOptions } from './proxy/options.js';
import type { HoldMode, OnOutgrown } from './proxy/reservations.js';
import { createGatewayRoutes } from './proxy/routes.js';
import { readUpstreamsFile } from './proxy/upstreamEntry.js';
import { hostFor, listEntries } from './proxy/upstreams.js';

/**
 * The metering proxies; src/gateway/proxy/endpoints.ts lists them.
 * @throws LedgerError `invalid_request` for a URL or a trusted proxy that is none
 */
export function createGateway(options: GatewayOptions): ServerPlugin {
  return createGatewayRoutes(options);
}

export interface OpenGatewayOptions
  extends Omit<DurabilityOptions, 'price'>,
    Pick<
      GatewayOptions,
      'upstreams' | 'trustedProxies' | 'onAbort' | 'corsOrigins' | 'traces' | 'limits'
    > {
  /**
   * How money is held before a provider is called (docs/budgets.md). Default `expected`: payers with
   * budgets, or with little left, for what a request likely costs.
   */
  holds?: HoldMode | 'off';
  /** Default `continue`: a stream goes on past what can be held for it, and is billed as ever. */
  onOutgrown?: OnOutgrown;
  /** More upstreams, JSON (docs/gateway.md). Default: none. */
  upstreamsFile?: string | null;
  /** Own prices and multipliers, JSON (src/gateway/prices/README.md). Default: none. */
  ownPricesFile?: string | null;
}

/**
 * Looks at the URLs and files that `openGateway` would refuse, and opens nothing.
 * @throws LedgerError `invalid_request` for a URL or a file that is wrong
 */
export function checkGatewaySettings(
  options: Pick<OpenGatewayOptions, 'upstreams' | 'upstreamsFile' | 'ownPricesFile'>,
): void {
  listEntries(options.upstreams ?? {}, readUpstreams(options.upstreamsFile));
  createPricer({ ownPricesFile: options.ownPricesFile ?? null }).close();
}

function readUpstreams(file: string | null | undefined) {
  return file ? readUpstreamsFile(file, process.env) : [];
}

export interface OpenGateway {
  plugin: ServerPlugin;
  /** As the requests are priced; for late pricing. */
  pricer: Pricer;
  /** Journal, dead letters, whether the database answers. */
  status(): UsageSinkStatus;
  /** After the server, before the ledger. */
  close(): Promise<void>;
}

/**
 * A gateway with all that it stands on: prices, journal, cached accounts.
 * @throws LedgerError `invalid_request` for a URL, a trusted proxy or a file of prices that is
 *   wrong, `unavailable` for a data directory whose journals are all held
 */
export async function openGateway(options: OpenGatewayOptions): Promise<OpenGateway> {
  const { upstreams = {}, log } = options;
  const upstreamEntries = readUpstreams(options.upstreamsFile);
  const pricer = createPricer({
    ownPricesFile: options.ownPricesFile ?? null,
    onReloadError: ({ message }) =>
      log?.error({ reason: message }, 'the changed file of own prices is not used'),
  });
  const entries = listEntries(upstreams, upstreamEntries);
  /** Of an intent that a dead process left: where its request went. */
  const hostOf = (intent: Intent) => {
    const endpoint = ENDPOINTS.find(({ kind }) => kind === intent.api_kind);
    if (endpoint?.use !== 'metered') return null;
    return hostFor(entries, endpoint.provider, intent.requested_model);
  };
  const durability = await openDurability({
    ...options,
    price: (intent) => priceIntent(pricer, intent, hostOf(intent)),
  }).catch((error) => {
    pricer.close();
    throw error;
  });
  const { sink, accounts, inFlight, responses, holds: store } = durability;
  const { holds: mode = 'expected', onOutgrown = 'continue' } = options;
  const close = async () => {
    await durability.close();
    pricer.close();
  };
  let plugin: ServerPlugin;
  try {
    plugin = createGateway({
      ...options,
      upstreamEntries,
      sink,
      accounts,
      inFlight,
      responses,
      pricer,
      holds: mode === 'off' ? null : { mode, store, onOutgrown },
    });
  } catch (error) {
    await close();
    throw error;
  }
  return {
    plugin,
    pricer,
    status: () => sink.status(),
    close,
  };
}

export type { GatewayLimits } from './proxy/limits.js';
export type { GatewayOptions } from './proxy/options.js';
