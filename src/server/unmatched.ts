import type { FastifyInstance } from 'fastify';

interface KnownRoute {
  pattern: RegExp;
  methods: Set<string>;
}

/** Answers 405 with `Allow` where the path exists under other methods, else 404. */
export function addUnmatchedHandler(app: FastifyInstance): void {
  const routes = new Map<string, KnownRoute>();
  app.addHook('onRoute', (route) => {
    // A catch-all (the page's files) says nothing about which paths exist.
    if (route.url === '*' || route.url === '/*') return;
    const known = routes.get(route.url) ?? { pattern: toPattern(route.url), methods: new Set() };
    for (const method of [route.method].flat()) known.methods.add(method);
    routes.set(route.url, known);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] ?? '';
    const allowed = new Set<string>();
    for (const route of routes.values()) {
      if (!route.pattern.test(path)) continue;
      for (const method of route.methods) allowed.add(method);
    }
    if (allowed.size === 0) {
      const message = 'there is nothing at this path';
      return reply.code(404).send({ error: { code: 'not_found', message } });
    }
    const allow = [...allowed].join(', ');
    return reply
      .code(405)
      .header('allow', allow)
      .send({
        error: {
          code: 'invalid_request',
          message: `this path allows ${allow}`,
          details: { allow },
        },
      });
  });
}

function toPattern(url: string): RegExp {
  const source = url
    .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replace(/:\w+/g, '[^/]+')
    .replace(/\*/g, '.*');
  return new RegExp(`^${source}/?$`);
}
