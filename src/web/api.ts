import { createTRPCClient, httpBatchLink, TRPCClientError } from '@trpc/client';
import type { inferRouterOutputs } from '@trpc/server';
import type { AppRouter } from '../server/trpc/router.js';

export type Outputs = inferRouterOutputs<AppRouter>;
export type Api = ReturnType<typeof createApi>;

/** Where an average came from, as the server's header says. */
export interface AnswerSource {
  mode: string;
  server: string;
  /** ISO 8601. */
  asOf: string;
}

const MAX_BATCH = 10;

/** The typed client. Calls of one moment travel in one request. */
export function createApi(options: {
  getKey(): string | null;
  onSource?(source: AnswerSource): void;
}) {
  return createTRPCClient<AppRouter>({
    links: [
      httpBatchLink({
        url: '/api/trpc',
        maxItems: MAX_BATCH,
        headers() {
          const key = options.getKey();
          return key === null ? {} : { authorization: `Bearer ${key}` };
        },
        async fetch(url, init) {
          const response = await fetch(url, { ...init, credentials: 'omit' } as RequestInit);
          const source = readSource(response.headers.get('x-microdollar-source'));
          if (source !== null) options.onSource?.(source);
          return response;
        },
      }),
    ],
  });
}

/** `rollup; server=primary; as-of=2026-11-22T10:02:11.123456Z` */
export function readSource(header: string | null): AnswerSource | null {
  const match = /^(\w+); server=(\w+); as-of=(\S+)$/.exec(header ?? '');
  if (!match?.[1] || !match[2] || !match[3]) return null;
  return { mode: match[1], server: match[2], asOf: match[3] };
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
