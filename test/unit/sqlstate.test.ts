import { describe, expect, it } from 'vitest';
import { withRetry } from '../../src/db/retry.js';
import {
  classifyFailure,
  type FailureKind,
  failureName,
  isDatabaseAway,
  isStatementTimeout,
  leavesSession,
  sqlStateOf,
  toLedgerError,
} from '../../src/db/sqlstate.js';
import { LedgerError } from '../../src/errors.js';

const databaseError = (code: string, message = 'what PostgreSQL says') =>
  Object.assign(new Error(message), { code });

const TABLE: [state: string, kind: FailureKind, code: string, what: string][] = [
  ['08006', 'retry', 'unavailable', 'connection_failure'],
  ['25006', 'retry', 'unavailable', 'read_only_sql_transaction: a standby'],
  ['25P03', 'retry', 'unavailable', 'idle_in_transaction_session_timeout'],
  ['26000', 'retry', 'unavailable', 'invalid_sql_statement_name'],
  ['42P05', 'retry', 'unavailable', 'duplicate_prepared_statement'],
  ['40001', 'retry', 'unavailable', 'serialization_failure'],
  ['40P01', 'retry', 'unavailable', 'deadlock_detected'],
  ['53100', 'retry', 'unavailable', 'disk_full'],
  ['53300', 'retry', 'unavailable', 'too_many_connections'],
  ['57P01', 'retry', 'unavailable', 'admin_shutdown'],
  ['57P02', 'retry', 'unavailable', 'crash_shutdown'],
  ['57P03', 'retry', 'unavailable', 'cannot_connect_now'],
  ['58030', 'retry', 'unavailable', 'io_error'],
  ['55P03', 'contended', 'unavailable', 'lock_not_available'],
  ['57014', 'contended', 'unavailable', 'query_canceled'],
  ['25P04', 'contended', 'unavailable', 'transaction_timeout'],
  ['22003', 'data', 'out_of_range', 'numeric_value_out_of_range'],
  ['22021', 'data', 'invalid_event', 'character_not_in_repertoire'],
  ['22P02', 'data', 'invalid_event', 'invalid_text_representation'],
  ['23505', 'data', 'invalid_event', 'unique_violation'],
  ['54000', 'data', 'invalid_event', 'program_limit_exceeded'],
  ['0A000', 'setup', 'internal', 'feature_not_supported'],
  ['28P01', 'setup', 'internal', 'invalid_password'],
  ['42501', 'setup', 'internal', 'insufficient_privilege'],
  ['42601', 'setup', 'internal', 'syntax_error'],
  ['42P01', 'setup', 'internal', 'undefined_table'],
  ['XX000', 'setup', 'internal', 'internal_error'],
];

describe('a failure of the database', () => {
  it.each(TABLE)('%s is to be taken as %s, and is told as %s (%s)', (state, kind, code) => {
    const error = databaseError(state);
    expect(classifyFailure(error)).toBe(kind);
    const ledgerError = toLedgerError(error);
    expect(ledgerError).toMatchObject({ code, details: { sqlstate: state }, cause: error });
    expect(ledgerError.retryable).toBe(code === 'unavailable');
    expect(failureName(error)).toBe(state);
  });

  it.each(['EPIPE', 'ECONNRESET', 'ECONNREFUSED', 'ETIMEDOUT', 'ENOTFOUND', 'EHOSTUNREACH'])(
    'without a SQLSTATE is a broken connection: %s',
    (code) => {
      const error = databaseError(code);
      expect(sqlStateOf(error)).toBeNull();
      expect(classifyFailure(error)).toBe('retry');
      expect(toLedgerError(error)).toMatchObject({
        code: 'unavailable',
        message: `database unreachable (${code})`,
      });
    },
  );

  it('is that of a plan from before a table was altered: another connection has none', () => {
    const routine = 'RevalidateCachedQuery';
    const error = Object.assign(databaseError('0A000'), { routine });
    expect(classifyFailure(error)).toBe('retry');
    expect(isDatabaseAway(error)).toBe(false);
    expect(leavesSession(error)).toBe(false);
  });

  it('is that of a pooler that has no room, or no server: Supavisor, Neon', () => {
    const full = Object.assign(databaseError('XX000'), { severity: 'FATAL' });
    expect(classifyFailure(full)).toBe('retry');
    expect(isDatabaseAway(full)).toBe(true);
    const other = Object.assign(databaseError('XX000'), { severity: 'ERROR' });
    expect(isDatabaseAway(other)).toBe(false);
  });

  it('is that of a statement that ran into its time, whichever limit that was', () => {
    expect(
      ['57014', '25P04', '55P03'].map((state) => isStatementTimeout(databaseError(state))),
    ).toEqual([true, true, false]);
  });

  it('without any code is one too', () => {
    const error = new Error('Connection terminated unexpectedly');
    expect(classifyFailure(error)).toBe('retry');
    expect(failureName(error)).toBe('connection');
  });

  it('says which command is missing when the tables are', () => {
    expect(toLedgerError(databaseError('42P01')).message).toContain('microdollar migrate');
  });

  it('is passed on when it is a LedgerError already', () => {
    const error = new LedgerError('unknown_user', 'x');
    expect(toLedgerError(error)).toBe(error);
  });
});

describe('withRetry', () => {
  /** Fails with each state in turn, then answers. */
  const failing = (states: string[]) => {
    const left = [...states];
    let sends = 0;
    return {
      run: async () => {
        sends++;
        const state = left.shift();
        if (state) throw databaseError(state);
        return 'answer';
      },
      sends: () => sends,
    };
  };

  it('sends again after failures that pass, and tells each one', async () => {
    const work = failing(['40P01', '57P01', '08006']);
    const causes: string[] = [];
    const options = { onRetry: (cause: string) => causes.push(cause) };
    expect(await withRetry(work.run, options)).toBe('answer');
    expect(causes).toEqual(['40P01', '57P01', '08006']);
  });

  it.each([
    ['what passes', '57P01', 6],
    ['a lock timeout', '55P03', 2],
    ['a statement timeout', '57014', 6],
    ['the statement’s own values', '23505', 1],
    ['the set-up', '42501', 1],
  ])('is bounded for %s', async (_, state, sends) => {
    const work = failing(Array.from({ length: 50 }, () => state));
    await expect(withRetry(work.run)).rejects.toMatchObject({ code: state });
    expect(work.sends()).toBe(sends);
  });

  it('leaves timeouts to who splits the batch', async () => {
    const work = failing(['55P03', '55P03']);
    await expect(withRetry(work.run, { splits: true })).rejects.toMatchObject({ code: '55P03' });
    expect(work.sends()).toBe(1);
  });
});
