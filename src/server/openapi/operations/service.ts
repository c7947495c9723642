import type { OperationDoc } from '../types.js';

const common = { tag: 'service', scope: null } as const;

export const serviceOperations: readonly OperationDoc[] = [
  {
    ...common,
    id: 'getHealth',
    method: 'get',
    path: '/healthz',
    summary: 'Whether the process answers',
    answers: {
      200: { description: 'It does', body: { schema: 'Health', example: { status: 'ok' } } },
    },
  },
  {
    ...common,
    id: 'getReadiness',
    method: 'get',
    path: '/readyz',
    summary: 'Whether the database takes writes',
    answers: {
      200: { description: 'It does', body: { schema: 'Readiness', example: { status: 'ready' } } },
      503: {
        description: 'It does not, or the server is stopping',
        headers: ['retry-after'],
        body: {
          schema: 'NotReady',
          example: {
            status: 'unavailable',
            error: {
              code: 'unavailable',
              message: 'not ready: no answer within 1500 ms',
              details: { reason: 'no answer within 1500 ms', retryable: true },
            },
          },
        },
      },
    },
  },
  {
    ...common,
    id: 'getMetrics',
    method: 'get',
    path: '/metrics',
    summary: 'Prometheus metrics',
    answers: {
      200: { description: 'Text, in the format of Prometheus', others: ['text/plain'] },
    },
  },
  {
    ...common,
    id: 'getOpenApi',
    method: 'get',
    path: '/api/openapi.json',
    summary: 'This document',
    answers: { 200: { description: 'OpenAPI 3.1', others: ['application/json'] } },
  },
  {
    ...common,
    id: 'getReference',
    method: 'get',
    path: '/docs',
    summary: 'This document as a page',
    answers: { 200: { description: 'HTML', others: ['text/html'] } },
  },
];
