import type { Follower } from './background/follower.js';
import type { ResponseOwners } from './background/owners.js';
import type { ReadClientAddress } from './clientAddress.js';
import type { GatewayLimits } from './limits.js';
import type { GatewayMetrics } from './metrics.js';
import type { GatewayOptions } from './options.js';
import type { Reservations } from './reservations.js';
import type { GatewaySpans } from './spans.js';
import type { StreamOptionsMemory } from './streamOptions.js';
import type { OnAbort } from './upstreamEntry.js';
import type { Upstream, Upstreams } from './upstreams.js';
import type { PriceUsage } from './usageEvent.js';

/** What the requests of a gateway share. */
export interface GatewayContext extends Pick<GatewayOptions, 'sink' | 'accounts' | 'inFlight'> {
  upstreams: Upstreams;
  limits: GatewayLimits;
  metrics: GatewayMetrics;
  priceUsage: (upstream: Upstream) => PriceUsage;
  readClientAddress: ReadClientAddress;
  streamOptions: StreamOptionsMemory;
  owners: ResponseOwners;
  /** Null: nothing keeps responses in the background; they are refused. */
  follower: Follower | null;
  /** Null: nothing is held. */
  reservations: Reservations | null;
  /** Null: as each API bills. */
  onAbort: OnAbort | null;
  /** Null: nobody wants spans. */
  spans: GatewaySpans | null;
}
