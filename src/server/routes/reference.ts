import { openApiDocument } from '../openapi/document.js';
import type { ServerPlugin } from '../plugins.js';
import { PAGE_POLICY, toPage } from '../reference/page.js';

/** `/api/openapi.json`, and the same as a page at `/docs`: no key, nothing of this installation. */
export const referenceRoutes: ServerPlugin = (app) => {
  const document = once(() => JSON.stringify(openApiDocument()));
  const page = once(() => toPage(openApiDocument()));

  app.get('/api/openapi.json', async (_request, reply) => {
    // Tools in a browser read it from pages of their own.
    reply.header('access-control-allow-origin', '*');
    reply.header('cross-origin-resource-policy', 'cross-origin');
    reply.type('application/json; charset=utf-8');
    return reply.send(document());
  });
  app.get('/docs', async (_request, reply) => {
    reply.header('content-security-policy', PAGE_POLICY);
    reply.type('text/html; charset=utf-8');
    return reply.send(page());
  });
};

/** Made when it is first asked for: most processes never are. */
function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
