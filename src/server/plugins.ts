import type { FastifyInstance, onRequestAsyncHookHandler } from 'fastify';
import type { Registry } from 'prom-client';
import type { Scope } from '../accounts/scopes.js';
import type { Bodies } from '../gateway/proxy/bodies.js';
import type { Ledger } from '../ledgerTypes.js';
import type { AnswerInShape } from './errorShapes.js';
import type { ServerLimits } from './options.js';

/** What routes are given. */
export interface ServerServices {
  ledger: Ledger;
  limits: ServerLimits;
  /** Of the API's requests in flight; a parser that reads by it counts with the others. */
  bodies: Bodies;
  /** Metrics of this server; merged into `/metrics`. */
  registry: Registry;
  /** Every metric of the service, up to date. */
  readMetrics(): Registry;
  isShuttingDown(): boolean;
  /**
   * `onRequest` hook of a route: authenticates before the body is read, sets `request.principal`,
   * answers 401 or 403. `apiKeyHeader` accepts `x-api-key` too, as Anthropic's clients send it.
   */
  requireScope(scope: Scope, options?: { apiKeyHeader?: boolean }): onRequestAsyncHookHandler;
  /**
   * At shutdown, before the server stops to listen: until it resolves, probes are answered (not
   * ready) and no connection is cut. It must keep to a time limit of its own.
   */
  beforeClose(work: () => Promise<void>): void;
  /** For requests that no route sees: a path that is none, a URL that cannot be decoded. */
  addErrorShape(answer: AnswerInShape): void;
}

/** Adds routes, hooks and parsers that stay its own (Fastify encapsulation). */
export type ServerPlugin = (app: FastifyInstance, services: ServerServices) => void | Promise<void>;
