import type { DestinationStream } from 'pino';
import type { Registry } from 'prom-client';
import type { Ledger } from '../ledgerTypes.js';
import type { ServerPlugin } from './plugins.js';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface ServerLimits {
  /** Request bodies of the API; a mounted route may set its own. Default 4 MiB. */
  bodyBytes: number;
  /** Bodies of the API's requests in flight, all together; beyond it new ones get 503. Default 256 MiB. */
  bodiesInFlightBytes: number;
  /** Events in one `POST /api/usage`. Default 1,000. */
  events: number;
  /** Nesting of a JSON body. Default 32. */
  jsonDepth: number;
  /** Calls in one tRPC batch. Default 20. */
  trpcBatch: number;
  /** Open sockets. Default 10,000. */
  connections: number;
  /** From the first byte to the end of the headers. Default 10,000 ms. */
  headersTimeoutMs: number;
  /** Between two pieces of a body. Default 60,000 ms. */
  bodySilenceMs: number;
  /** From the first byte to the end of the body, however steadily it comes. Default 1 h. */
  requestTimeoutMs: number;
  /** Of an idle kept-alive connection: longer than proxies in front keep theirs. Default 620,000 ms. */
  keepAliveTimeoutMs: number;
  /** For the database to answer `/readyz`. Default 1,500 ms. */
  readinessTimeoutMs: number;
  /** For requests in flight at shutdown; then their connections are cut. Default 10,000 ms. */
  shutdownTimeoutMs: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  bodyBytes: 4 * 1024 * 1024,
  bodiesInFlightBytes: 256 * 1024 * 1024,
  events: 1_000,
  jsonDepth: 32,
  trpcBatch: 20,
  connections: 10_000,
  headersTimeoutMs: 10_000,
  bodySilenceMs: 60_000,
  requestTimeoutMs: 3_600_000,
  // Caddy 2 min, Google's load balancer 600 s: what they send on one that ends just then is a 502.
  keepAliveTimeoutMs: 620_000,
  readinessTimeoutMs: 1_500,
  shutdownTimeoutMs: 10_000,
};

export interface ServerOptions {
  ledger: Ledger;
  /** A service key with every scope. Without one, only keys of `api_keys` are let in. */
  adminKey?: string | undefined;
  /** Default 127.0.0.1: nobody else's machine. */
  host?: string | undefined;
  /** Default 8787; 0 = a free one. */
  port?: number | undefined;
  /** Default info. */
  logLevel?: LogLevel | undefined;
  /** Default: stderr. */
  logStream?: DestinationStream | undefined;
  limits?: Partial<ServerLimits> | undefined;
  /** Shown by `operations.status`. Default: the package's. */
  version?: string | undefined;
  /** The gateway, the page: each gets an encapsulated Fastify instance. */
  plugins?: readonly ServerPlugin[] | undefined;
  /** Monthly tiers in USD, ascending, that the page compares a user's average with. Default: none. */
  tiersUsd?: readonly number[] | undefined;
  /** More metrics for `/metrics`. Default: none. */
  registries?: readonly Registry[] | undefined;
  /** With a ledger that has a tracer: a caller's `traceparent` is continued. Default true. */
  continuesTraces?: boolean | undefined;
  /** More parts of `operations.status`, by name; a part that fails shows its error. */
  statusParts?: Readonly<Record<string, () => Promise<unknown>>> | undefined;
}
