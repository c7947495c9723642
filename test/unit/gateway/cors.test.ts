import type { FastifyRequest } from 'fastify';
import { expect, it } from 'vitest';
import { createCors } from '../../../src/gateway/proxy/cors.js';
import { RESPONSE_HEADERS } from '../../../src/server/openapi/headers.js';

it('lets a page that may call read every header that the reference has of the gateway', () => {
  const origin = 'https://app.example';
  const headers = createCors([origin])({ headers: { origin } } as FastifyRequest);
  const exposed = (headers['access-control-expose-headers'] ?? '').split(', ');
  const documented = Object.entries(RESPONSE_HEADERS)
    .filter(([, meaning]) => meaning.startsWith('Gateway'))
    .map(([name]) => name);
  expect(documented.length).toBeGreaterThan(5);
  expect(exposed).toEqual(expect.arrayContaining([...documented, 'retry-after', 'x-request-id']));
});
