import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type AnswerInShape, sendInShape } from './errorShapes.js';

interface KnownRoute {
  pattern: RegExp;
  methods: Set<string>;
}

const MAX_SHOWN_PATH = 200;

/**
 * Answers 405 with `Allow` where the path exists under other methods, else 404; before its body is read, for
 * nobody has asked whose it is.
 */
export function addUnmatchedHandler(app: FastifyInstance, shapes: readonly AnswerInShape[]): void {
  const routes = new Map<string, KnownRoute>();
  app.addHook('onRoute', (route) => {
    // A catch-all (the page's files) says nothing about which paths exist.
    if (route.url === '*' || route.url === '/*') return;
    const known = routes.get(route.url) ?? { pattern: toPattern(route.url), methods: new Set() };
    for (const method of [route.method].flat()) known.methods.add(method);
    routes.set(route.url, known);
  });
  const answer = (request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const path = request.url.split('?', 1)[0] ?? '';
    const allowed = new Set<string>();
    for (const route of routes.values()) {
      if (!route.pattern.test(path)) continue;
      for (const method of route.methods) allowed.add(method);
    }
    // Of a path with a slash too many its method is among them: what is wrong is the path.
    const isAllowed = allowed.has(request.method);
    if (allowed.size === 0 || isAllowed) {
      const remedy = isAllowed && path.endsWith('/') ? '; leave out the slash at its end' : '';
      const message = `there is nothing at ${request.method} ${path.slice(0, MAX_SHOWN_PATH)}${remedy}`;
      const body = { error: { code: 'not_found' as const, message } };
      return sendInShape(shapes, request, reply, { status: 404, body });
    }
    const allow = [...allowed].join(', ');
    const message = `this path allows ${allow}`;
    const body = { error: { code: 'invalid_request' as const, message, details: { allow } } };
    return sendInShape(shapes, request, reply.header('allow', allow), { status: 405, body });
  };
  app.setNotFoundHandler(answer);
  app.addHook('onRequest', async (request, reply) => {
    if (request.is404) return answer(request, reply);
  });
}

function toPattern(url: string): RegExp {
  const source = url
    .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replace(/:\w+/g, '[^/]+')
    .replace(/\*/g, '.*');
  return new RegExp(`^${source}/?$`);
}
