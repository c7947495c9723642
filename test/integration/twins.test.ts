import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { Ledger, LedgerOptions } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { UsageEvent } from '../../src/record/types.js';
import { openPool } from '../support/openPool.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

/**
 * I4, R11: an id whose first delivery is in somebody's open transaction is redelivered. It waits
 * alone and bounded; whoever else writes through the process is answered meanwhile. Nothing here is
 * measured by the clock: others are answered first, while the redeliveries still wait.
 */
const AT = '2025-05-06T07:08:09Z';

let fixture: LedgerFixture;
let sessions: Sessions;
let holder: Session;
let holdingUser: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  sessions = await openSessions(fixture.database.url, 1);
  holder = sessions.all[0] as Session;
  holdingUser = await fixture.addUser();
});

afterAll(async () => {
  await sessions.close();
  await fixture.close();
});

/** Waits longer than any test for a twin. */
const openPatient = (options: Partial<LedgerOptions> = {}) =>
  fixture.open({ lockTimeoutMs: 600_000, ...options });

const newEvents = (user: string, count: number) =>
  Array.from({ length: count }, () => ({
    id: randomUUID(),
    kilo_user_id: user,
    cost: 1,
    created_at: AT,
  }));

/** First deliveries, in a transaction that stays open. */
async function hold(events: readonly UsageEvent[]): Promise<void> {
  await holder.run('begin');
  for (const event of events) await insertUsageAndMetadataWithBalanceUpdate(holder.client, event);
}

/** What became of redeliveries; `ended` counts those that were answered. */
function follow(work: readonly Promise<unknown>[]) {
  const state = { ended: 0, all: Promise.resolve() as Promise<unknown> };
  const outcomes = work.map((each) =>
    each.then(
      (value) => value,
      (error: unknown) => error,
    ),
  );
  for (const each of outcomes) {
    void each.then(() => {
      state.ended++;
    });
  }
  state.all = Promise.all(outcomes);
  return state;
}

/** Single calls, a batch, an Exa request: all are recorded. */
async function writeAsOthers(ledger: Ledger, user: string): Promise<void> {
  const single = newEvents(user, 8).map((event) => ledger.recordUsage(event));
  const batch = await ledger.recordUsageBatch(newEvents(user, 40));
  const exa = await ledger.recordExaUsage({ kilo_user_id: user, cost: 1, path: '/search' });
  const answers = [...(await Promise.all(single)), ...batch, exa];
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(['recorded']));
}

const asOneCall = (ledger: Ledger, events: UsageEvent[]) =>
  ledger.recordUsageBatch(events).then((results) => {
    const refused = results.find((result) => result.status === 'rejected');
    if (refused) throw (refused as { error: Error }).error;
    return results[0];
  });

const REDELIVERIES: [name: string, send: (l: Ledger, e: UsageEvent[]) => Promise<unknown>[]][] = [
  ['one by one', (ledger, events) => events.map((event) => ledger.recordUsage(event))],
  ['together with others of their own', (ledger, events) => [asOneCall(ledger, events)]],
];

describe.each(REDELIVERIES)('redelivered %s', (_, redeliver) => {
  it.each([1, 6, 120])(
    '%i held ids delay nobody else, and are duplicates after the commit',
    async (count) => {
      const other = await fixture.addUser();
      const ledger = await openPatient();
      const held = newEvents(holdingUser, count);
      await hold(held);
      const waiting = follow(redeliver(ledger, held));
      for (let round = 0; round < 3; round++) await writeAsOthers(ledger, other);
      expect(waiting.ended).toBe(0);
      await holder.run('commit');
      for (const outcome of (await waiting.all) as object[]) {
        expect(outcome).toMatchObject({ status: 'duplicate' });
      }
      await fixture.expectExact();
    },
  );
});

it('more held ids than there are connections do not wait in their pool, which gives up', async () => {
  const ledger = await openPatient();
  const held = newEvents(holdingUser, 120);
  await hold(held);
  let waiting = 0;
  const connect = pg.Pool.prototype.connect;
  const spy = vi.spyOn(pg.Pool.prototype, 'connect').mockImplementation(function (
    this: pg.Pool,
    ...args: unknown[]
  ) {
    const connected = (connect as (...given: unknown[]) => unknown).apply(this, args);
    const { application_name: name } = this.options as { application_name?: string };
    const openable = this.options.max - this.totalCount;
    if (name?.startsWith('microdollar aside'))
      waiting = Math.max(waiting, this.waitingCount - this.idleCount - openable);
    return connected as never;
  });
  onTestFinished(() => spy.mockRestore());
  const redelivered = follow([asOneCall(ledger, held)]);
  await vi.waitFor(async () => {
    const tries = (await ledger.metrics.retries.get()).values.reduce(
      (sum, { value }) => sum + value,
      0,
    );
    expect(tries).toBeGreaterThan(held.length);
  }, 60_000);
  await holder.run('commit');
  await redelivered.all;
  // But for the one that is opened to be kept.
  expect(waiting).toBeLessThan(2);
  await fixture.expectExact();
});

describe('behind a pooler, where connections carry no settings', () => {
  it.each(REDELIVERIES)(
    'held ids that are redelivered %s delay nobody else',
    async (_, redeliver) => {
      const other = await fixture.addUser();
      const ledger = await openPatient({ preparedStatements: false });
      const held = newEvents(holdingUser, 8);
      await hold(held);
      const waiting = follow(redeliver(ledger, held));
      for (let round = 0; round < 3; round++) await writeAsOthers(ledger, other);
      expect(waiting.ended).toBe(0);
      await holder.run('commit');
      for (const outcome of (await waiting.all) as object[]) {
        expect(outcome).toMatchObject({ status: 'duplicate' });
      }
      await fixture.expectExact();
    },
  );
});

describe('a redelivery', () => {
  it('in one statement with events of others lets them through', async () => {
    const other = await fixture.addUser();
    const ledger = await openPatient();
    const held = newEvents(holdingUser, 3);
    await hold(held);
    const events = newEvents(other, 60);
    const mixed = events.flatMap((event, index) =>
      index % 20 === 0 ? [held[index / 20] as UsageEvent, event] : [event],
    );
    const calls = mixed.map((event) => ledger.recordUsage(event));
    const waiting = follow(calls.filter((__, index) => held.includes(mixed[index] as never)));
    const others = calls.filter((__, index) => !held.includes(mixed[index] as never));
    for (const answer of await Promise.all(others)) expect(answer.status).toBe('recorded');
    expect(waiting.ended).toBe(0);
    await holder.run('rollback');
    for (const outcome of (await waiting.all) as object[]) {
      expect(outcome).toMatchObject({ status: 'recorded' });
    }
    await fixture.expectExact();
  });

  it('is refused in the end, with a retryable error, and is in no table by itself', async () => {
    const ledger = await fixture.open({ lockTimeoutMs: 300 });
    const pool = openPool({ connectionString: fixture.database.url, max: 2 });
    const held = newEvents(holdingUser, 3);
    await hold(held);
    const before = await ledger.metrics.retries.get();
    expect(before.values).toEqual([]);
    const refusals = await Promise.all([
      ledgerErrorOf(ledger.recordUsage(held[0] as UsageEvent)),
      ledgerErrorOf(ledger.recordUsage(held[1] as UsageEvent, { balance: false })),
      // A pool of the host's own has no timeouts of ours: the statement carries its own.
      ledgerErrorOf(insertUsageAndMetadataWithBalanceUpdate(pool, held[2] as UsageEvent)),
    ]);
    for (const error of refusals) {
      expect(error).toMatchObject({ code: 'unavailable', retryable: true });
    }
    const { rows } = await pool.query('show lock_timeout');
    expect(rows).toEqual([{ lock_timeout: '0' }]);
    const { values } = await ledger.metrics.retries.get();
    expect(values.map(({ labels }) => labels.cause)).toEqual(['55P03']);
    await holder.run('rollback');
    const stored = 'select from microdollar_usage where id = any ($1)';
    expect(await fixture.rows(stored, [held.map(({ id }) => id)])).toEqual([]);
    for (const event of held) {
      expect(await ledger.recordUsage(event)).toMatchObject({ status: 'recorded' });
    }
    await pool.end();
    await fixture.expectExact();
  });

  it('in a transaction of the caller’s own is bounded too, and leaves its settings alone', async () => {
    const held = newEvents(holdingUser, 1);
    await hold(held);
    await using own = await openSessions(fixture.database.url, 1);
    const caller = own.all[0] as Session;
    await caller.run('begin');
    await caller.run("set local lock_timeout = '1h'");
    const [free] = newEvents(holdingUser, 1);
    await insertUsageAndMetadataWithBalanceUpdate(caller.client, free as UsageEvent);
    expect(await caller.run('show lock_timeout')).toEqual([{ lock_timeout: '1h' }]);
    await caller.run('savepoint before');
    expect(
      await ledgerErrorOf(
        insertUsageAndMetadataWithBalanceUpdate(caller.client, held[0] as UsageEvent),
      ),
    ).toMatchObject({ code: 'unavailable', retryable: true });
    await caller.run('rollback to savepoint before');
    expect(await caller.run('show lock_timeout')).toEqual([{ lock_timeout: '1h' }]);
    await caller.run('commit');
    await holder.run('commit');
    await fixture.expectExact();
  });
});

describe('redelivered Exa requests', () => {
  it('delay neither other requests nor usage', async () => {
    const other = await fixture.addUser();
    const ledger = await openPatient();
    const held = Array.from({ length: 6 }, () => ({
      id: randomUUID(),
      kilo_user_id: holdingUser,
      cost: 1,
      path: '/search',
      created_at: AT,
    }));
    await holder.run('begin');
    for (const { id, kilo_user_id, cost, path, created_at } of held) {
      await holder.run(
        `insert into exa_usage_log (id, kilo_user_id, cost, path, created_at, position)
         values ($1, $2, $3, $4, $5, microdollar_position())`,
        [id, kilo_user_id, cost, path, created_at],
      );
    }
    const waiting = follow(held.map((usage) => ledger.recordExaUsage(usage)));
    for (let round = 0; round < 3; round++) await writeAsOthers(ledger, other);
    expect(waiting.ended).toBe(0);
    await holder.run('commit');
    for (const outcome of (await waiting.all) as object[]) {
      expect(outcome).toMatchObject({ status: 'duplicate' });
    }
    await fixture.expectExact();
  });
});

describe('a table that is locked', () => {
  it('is waited for, together: nothing is refused, nothing is taken for a twin', async () => {
    const user = await fixture.addUser();
    const ledger = await openPatient();
    await ledger.recordUsage({ kilo_user_id: user, cost: 1, created_at: AT });
    await holder.run('begin');
    await holder.run('lock table microdollar_usage in exclusive mode');
    const waiting = follow(newEvents(user, 300).map((event) => ledger.recordUsage(event)));
    // Longer than a statement waits: it is met more than once.
    await holder.run('select pg_sleep(0.5)');
    expect(waiting.ended).toBe(0);
    await holder.run('commit');
    for (const outcome of (await waiting.all) as object[]) {
      expect(outcome).toMatchObject({ status: 'recorded' });
    }
    await fixture.expectExact();
  });
});
