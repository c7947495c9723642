import type {
  AccountsCache,
  InFlightLimit,
  ResponseFollowing,
  UsageSink,
} from '../durable/types.js';
import type { Pricer } from '../prices/index.js';
import type { Provider } from './apis.js';
import type { GatewayLimits } from './limits.js';
import type { HoldOptions } from './reservations.js';
import type { TraceAllowances } from './spans.js';
import type { OnAbort, UpstreamEntry, UpstreamSettings } from './upstreamEntry.js';

export interface GatewayOptions {
  sink: UsageSink;
  accounts: AccountsCache;
  inFlight: InFlightLimit;
  pricer: Pricer;
  /** Keeps responses that are made in the background. Absent: they are refused. */
  responses?: ResponseFollowing;
  /** Between two looks for responses in the background that may have ended. Default 2,000 ms. */
  followIntervalMs?: number;
  /** Default: the providers' public addresses, without keys (requests are refused). */
  upstreams?: Partial<Record<Provider, Partial<UpstreamSettings>>>;
  /** More providers, asked first, in order; each says for which models. Default: none. */
  upstreamEntries?: readonly UpstreamEntry[];
  /** Addresses and ranges whose `x-forwarded-for` is believed. Default: none. */
  trustedProxies?: readonly string[];
  /** What becomes of the provider's work when its client leaves. Default: as each API bills. */
  onAbort?: OnAbort | null;
  /** How money is held before a provider is called. Default: it is not; the balance is looked at. */
  holds?: HoldOptions | null;
  /** Origins of pages that may call the gateway from a browser. Default: none. */
  corsOrigins?: readonly string[];
  /** With a ledger that has a tracer: what spans may tell. Default: neither payer nor provider. */
  traces?: TraceAllowances;
  limits?: Partial<GatewayLimits>;
}
