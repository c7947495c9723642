import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, HTTP_STATUS, LedgerError } from '../../errors.js';
import type { RecordResult, UsageEvent } from '../../record/types.js';
import { isRefusedForItsTime, redate } from '../metering/index.js';

/** A microdollar server, and a key of it with the scope `usage:write`. */
export interface RemoteLedger {
  /** `https://ledger.example`, without a path. */
  url: string;
  key: string;
  /** Default: the global one. */
  fetch?: typeof globalThis.fetch;
  /** Of one attempt. Default 10,000 ms. */
  timeoutMs?: number;
  /** Default 4. An event has its id before the first one, so a repetition is safe (I3). */
  attempts?: number;
}

const FIRST_DELAY_MS = 200;

/** @throws LedgerError with the server's code; `unavailable` when it cannot be reached */
export async function recordRemotely(
  remote: RemoteLedger,
  event: UsageEvent & { id: string },
): Promise<RecordResult> {
  const attempts = remote.attempts ?? 4;
  let sent = event;
  for (let attempt = 1; ; attempt++) {
    try {
      return await post(remote, sent);
    } catch (error) {
      // Our clock is not the server's: its own time is good enough.
      if (isRefusedForItsTime(error) && sent === event) {
        sent = redate(event);
        continue;
      }
      if (!(error instanceof LedgerError) || !error.retryable || attempt >= attempts) throw error;
      await sleep(FIRST_DELAY_MS * 2 ** (attempt - 1));
    }
  }
}

async function post(remote: RemoteLedger, event: UsageEvent): Promise<RecordResult> {
  const { fetch = globalThis.fetch, timeoutMs = 10_000 } = remote;
  let status: number;
  let answer: unknown;
  try {
    const response = await fetch(new URL('/api/usage', remote.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${remote.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ events: [event] }),
      signal: AbortSignal.timeout(timeoutMs),
    });
    status = response.status;
    answer = await response.json();
  } catch (cause) {
    throw new LedgerError('unavailable', 'the ledger cannot be reached', { cause });
  }
  const { results, error } = answer as {
    results?: (RecordResult | { status: 'rejected'; error: unknown })[];
    error?: unknown;
  };
  const [result] = results ?? [];
  if (status === 200 && result !== undefined && result.status !== 'rejected') return result;
  throw toLedgerError(status, result?.status === 'rejected' ? result.error : error);
}

function toLedgerError(status: number, error: unknown): LedgerError {
  const { code, message, details } = (error ?? {}) as {
    code?: unknown;
    message?: unknown;
    details?: unknown;
  };
  const isKnown = typeof code === 'string' && Object.hasOwn(HTTP_STATUS, code);
  const isPassing = status >= 500 || status === 429;
  const fallback: ErrorCode = isPassing ? 'unavailable' : 'internal';
  return new LedgerError(
    isKnown ? (code as ErrorCode) : fallback,
    typeof message === 'string' ? message : `the ledger answered with status ${status}`,
    typeof details === 'object' && details !== null ? { details: { ...details } } : {},
  );
}
