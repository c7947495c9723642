import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { LedgerError } from '../../../src/errors.js';
import type { Ledger } from '../../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../../src/record/onExecutor.js';
import type { RecordResult } from '../../../src/record/types.js';
import { openPool } from '../../support/openPool.js';
import type { Answer, SentEvent } from './clientBook.js';
import { Ambiguous, type Send } from './traffic.js';

const METADATA = { http_user_agent: 'fault suite', editor_name: 'none' } as const;

function toAnswer(result: RecordResult): Answer {
  return { id: result.id, status: result.status, created_at: result.created_at };
}

function coreFieldsOf({ kind: _, ...event }: SentEvent) {
  return { ...event, model: 'm', input_tokens: 5 };
}

/** Through a ledger of this process: one call an event, all at once. */
export function throughLibrary(ledger: () => Ledger): Send {
  const record = (event: SentEvent) => {
    const { kind: _, ...fields } = event;
    return event.kind === 'exa'
      ? ledger().recordExaUsage({ ...fields, path: '/search' })
      : ledger().recordUsage({ ...coreFieldsOf(event), metadata: METADATA });
  };
  return (events) =>
    Promise.all(
      events.map((event) => record(event).then(toAnswer, (error: unknown) => error as Error)),
    );
}

/** Over HTTP, to one of several servers at random; usage only. */
export function throughHttp(urls: () => readonly string[], key: string): Send {
  return async (events) => {
    const candidates = urls();
    const url = candidates[Math.floor(Math.random() * candidates.length)];
    const body = JSON.stringify({ events: events.map(coreFieldsOf) });
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const signal = AbortSignal.timeout(10_000);
    const response = await fetch(`${url}/api/usage`, { method: 'POST', headers, body, signal })
      .then(async (answer) => ({ status: answer.status, body: await answer.json() }))
      .catch((error: Error) => {
        throw new Ambiguous(`no answer: ${error.message}`);
      });
    if (response.status === 503) throw new Ambiguous('unavailable');
    if (response.status !== 200) throw new Error(`${response.status} ${JSON.stringify(response)}`);
    const { results } = response.body as { results: HttpResult[] };
    return results.map((result) => {
      if (result.status !== 'rejected') return result;
      const { code, message } = result.error;
      return code === 'unavailable' ? new Ambiguous(message) : new Error(`${code} ${message}`);
    });
  };
}

type HttpResult = Answer | { status: 'rejected'; error: { code: string; message: string } };

/** On a pool of a host's own, each a transaction of its own: in place where it can; usage only. */
export function throughPool(databaseUrl: string): Send & { end(): Promise<void> } {
  const pool = openPool({
    connectionString: databaseUrl,
    max: 6,
    connectionTimeoutMillis: 5_000,
    query_timeout: 10_000,
    application_name: 'host pool',
  });
  const send: Send = (events) =>
    Promise.all(
      events.map((event) =>
        insertUsageAndMetadataWithBalanceUpdate(pool, coreFieldsOf(event), METADATA).then(
          toAnswer,
          (error: unknown) => error as Error,
        ),
      ),
    );
  return Object.assign(send, { end: () => pool.end() });
}

/**
 * In a transaction of the caller's own, idle for a while before its commit, as the host
 * application's would be. Acknowledged only when the commit was; usage only.
 */
export function throughTransaction(databaseUrl: string, idleMs: () => number): Send {
  return async (events) => {
    const client = new pg.Client({
      connectionString: databaseUrl,
      connectionTimeoutMillis: 5_000,
      query_timeout: 10_000,
      application_name: 'host application',
    });
    client.on('error', () => {});
    const answers: Answer[] = [];
    try {
      await client.connect();
      await client.query('begin');
      for (const event of events) {
        const result = await insertUsageAndMetadataWithBalanceUpdate(
          client,
          coreFieldsOf(event),
          METADATA,
        );
        answers.push(toAnswer(result));
      }
      await sleep(idleMs());
      await client.query('commit');
      return answers;
    } catch (error) {
      if (error instanceof LedgerError && !error.retryable) throw error;
      throw new Ambiguous(String(error));
    } finally {
      await client.end().catch(() => {});
    }
  };
}
