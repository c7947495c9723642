/**
 * What the server uses of tRPC. `dist` has tRPC's own code in this module (scripts/build.js): the
 * package asks for TypeScript as its peer, 31 MB that would be installed beside every ledger.
 */
export { initTRPC, TRPCError } from '@trpc/server';
export { fastifyRequestHandler } from '@trpc/server/adapters/fastify';
