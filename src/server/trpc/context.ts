import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Ledger } from '../../ledgerTypes.js';
import { type Authenticate, type Principal, readToken } from '../auth.js';
import type { PartOperations } from '../operations/operations.js';
import type { OperationsStatus } from '../status.js';

export interface TrpcServices {
  ledger: Ledger;
  /** Whose key the request has; asked once. @throws LedgerError `unauthorized`, `unavailable` */
  principalOf(request: FastifyRequest): Promise<Principal>;
  readStatus(): Promise<OperationsStatus>;
  operations: PartOperations;
  /** Ascending; empty = none are configured. */
  tiersUsd: readonly number[];
}

export interface TrpcContext extends TrpcServices {
  request: FastifyRequest;
  reply: FastifyReply;
  /** Once per request, also for the many calls of a batch. */
  getPrincipal(): Promise<Principal>;
}

export function createContextFactory(services: TrpcServices) {
  return ({ req, res }: { req: FastifyRequest; res: FastifyReply }): TrpcContext => ({
    ...services,
    request: req,
    reply: res,
    getPrincipal: () => services.principalOf(req),
  });
}

/** Asks once a request, also for the many calls of a batch. */
export function authenticateOnce(authenticate: Authenticate): TrpcServices['principalOf'] {
  const asked = new WeakMap<FastifyRequest, Promise<Principal>>();
  return (request) => {
    const principal =
      asked.get(request) ??
      authenticate(readToken(request.headers)).then((found) => {
        request.principal = found;
        return found;
      });
    asked.set(request, principal);
    return principal;
  };
}
