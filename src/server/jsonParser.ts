import type { FastifyInstance } from 'fastify';
import { LedgerError } from '../errors.js';

/**
 * JSON bodies: `__proto__` and `constructor.prototype` keys are refused, and so is nesting deeper
 * than any event or request of ours, so that nothing later recurses into it. An empty body is none:
 * a route that needs one says so (`parseBody`).
 */
export function addJsonParser(
  app: FastifyInstance,
  maxDepth: number,
  mediaTypes: readonly string[],
): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser<string>(
    [...mediaTypes],
    { parseAs: 'string' },
    (request, body, done) => {
      if (body === '') return done(null, undefined);
      parse(request, body, (error, value) => {
        if (error) return done(error);
        if (isDeeperThan(value, maxDepth)) {
          const message = `the body is nested deeper than ${maxDepth} levels`;
          return done(new LedgerError('invalid_request', message));
        }
        done(null, value);
      });
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
