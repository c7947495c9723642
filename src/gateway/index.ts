import type { ServerPlugin } from '../server/plugins.js';
import type { GatewayOptions } from './proxy/options.js';
import { createGatewayRoutes } from './proxy/routes.js';

/**
 * The metering proxies: `POST /v1/chat/completions`, `/v1/responses`, `/v1/messages`, and
 * `GET /v1/models`. @throws RangeError for a URL or a trusted proxy that is none
 */
export function createGateway(options: GatewayOptions): ServerPlugin {
  // TEMPORARY until src/gateway/prices exists.
  return createGatewayRoutes(options, () => ({ cost: null, metadata: {} }));
}

export type { GatewayLimits } from './proxy/limits.js';
export type { GatewayOptions } from './proxy/options.js';
