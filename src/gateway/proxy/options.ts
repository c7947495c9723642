import type { AccountsCache, InFlightLimit, UsageSink } from '../durable/types.js';
import type { Pricer } from '../prices/index.js';
import type { Provider } from './apis.js';
import type { GatewayLimits } from './limits.js';
import type { UpstreamSettings } from './upstreams.js';

export interface GatewayOptions {
  sink: UsageSink;
  accounts: AccountsCache;
  inFlight: InFlightLimit;
  pricer: Pricer;
  /** Default: the providers' public addresses, without keys (requests are refused). */
  upstreams?: Partial<Record<Provider, Partial<UpstreamSettings>>>;
  /** Addresses and ranges whose `x-forwarded-for` is believed. Default: none. */
  trustedProxies?: readonly string[];
  limits?: Partial<GatewayLimits>;
}
