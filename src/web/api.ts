import { createTRPCClient, httpLink, TRPCClientError } from '@trpc/client';
import type { inferRouterOutputs } from '@trpc/server';
import type { AppRouter } from '../server/trpc/router.js';

export type Outputs = inferRouterOutputs<AppRouter>;
export type Api = ReturnType<typeof createApi>;

/** The typed client. Each call travels by itself: a slow one holds no other. */
export function createApi(options: { getKey(): string | null }) {
  return createTRPCClient<AppRouter>({
    links: [
      httpLink({
        url: '/api/trpc',
        headers() {
          const key = options.getKey();
          return key === null ? {} : { authorization: `Bearer ${key}` };
        },
        fetch: (url, init) => fetch(url, { ...init, credentials: 'omit' } as RequestInit),
      }),
    ],
  });
}

export interface Failure {
  /** Our error code; `offline` when no answer came. */
  code: string;
  message: string;
  details: Readonly<Record<string, unknown>>;
}

/** Any failure of a call, in words for a person. */
export function toFailure(error: unknown): Failure {
  if (!(error instanceof TRPCClientError)) {
    return { code: 'internal', message: 'the page failed; reload it', details: {} };
  }
  const data = (error as TRPCClientError<AppRouter>).data as {
    ledgerCode?: string;
    details?: Record<string, unknown>;
  } | null;
  if (!data?.ledgerCode) {
    return {
      code: 'offline',
      message: 'the server does not answer; is it running?',
      details: {},
    };
  }
  return { code: data.ledgerCode, message: error.message, details: data.details ?? {} };
}
