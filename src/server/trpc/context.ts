import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Ledger } from '../../ledgerTypes.js';
import { type Authenticate, type Principal, readToken } from '../auth.js';
import type { PartOperations } from '../operations/operations.js';
import type { OperationsStatus } from '../status.js';

export interface TrpcServices {
  ledger: Ledger;
  authenticate: Authenticate;
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
  return ({ req, res }: { req: FastifyRequest; res: FastifyReply }): TrpcContext => {
    let principal: Promise<Principal> | null = null;
    return {
      ...services,
      request: req,
      reply: res,
      getPrincipal() {
        principal ??= services.authenticate(readToken(req.headers)).then((found) => {
          req.principal = found;
          return found;
        });
        return principal;
      },
    };
  };
}
