import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { LedgerError } from '../errors.js';
import type { Bodies } from '../gateway/proxy/bodies.js';

/** A body, counted with all others in flight. */
export async function readText(
  bodies: Bodies,
  request: FastifyRequest,
  payload: IncomingMessage,
): Promise<string> {
  return (await bodies.read(request, payload, request.routeOptions.bodyLimit)).toString();
}

/**
 * JSON bodies: `__proto__` and `constructor.prototype` keys are refused, and so is nesting deeper
 * than any event or request of ours, so that nothing later recurses into it. An empty body is none:
 * a route that needs one says so (`parseBody`).
 */
export function addJsonParser(
  app: FastifyInstance,
  { maxDepth, bodies }: { maxDepth: number; bodies: Bodies },
  mediaTypes: readonly string[],
): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser(
    [...mediaTypes],
    async (request: FastifyRequest, payload: IncomingMessage) => {
      const body = await readText(bodies, request, payload);
      if (body === '') return undefined;
      const value = await new Promise((resolve, reject) => {
        parse(request, body, (error, parsed) => (error ? reject(error) : resolve(parsed)));
      });
      if (!isDeeperThan(value, maxDepth)) return value;
      throw new LedgerError('invalid_request', `the body is nested deeper than ${maxDepth} levels`);
    },
  );
}

/** Level by level, without recursion. */
export function isDeeperThan(value: unknown, maxDepth: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    const next: unknown[] = [];
    for (const item of level) {
      if (typeof item !== 'object' || item === null) continue;
      if (depth >= maxDepth) return true;
      for (const child of Array.isArray(item) ? item : Object.values(item)) {
        if (typeof child === 'object' && child !== null) next.push(child);
      }
    }
    level = next;
  }
  return false;
}
