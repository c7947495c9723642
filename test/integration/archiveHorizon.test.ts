import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { queryOnPool } from '../../src/db/query.js';
import { rawSink } from '../../src/importing/sinks.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { UsageEvent } from '../../src/record/types.js';
import { nodeArchiveFileSystem } from '../../src/rollup/archive/fileSystem.js';
import { raiseHorizon, waitForOlderTransactions } from '../../src/rollup/archive/horizon.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import {
  createFilledFixture,
  dayOf,
  daysAgo,
  FIRST,
  type FilledFixture,
  LAST,
} from './archiveHarness.js';
import { ledgerErrorOf } from './ledgerHarness.js';

let fixture: FilledFixture;

beforeEach(async () => {
  fixture = await createFilledFixture();
});

afterEach(() => fixture.close());

describe('the horizon', () => {
  it('refuses older events, and replays of archived ids, on every path', async () => {
    await fixture.archive(LAST);
    const replay = fixture.events.find((event) => dayOf(event) === LAST) as UsageEvent;
    const fresh = { kilo_user_id: 'ann', cost: 5, created_at: `${LAST}T23:59:59.999999Z` };
    const append = await fixture.open({ appendAlways: true });
    for (const ledger of [fixture.ledger, append]) {
      for (const event of [replay, fresh]) {
        expect(await ledgerErrorOf(ledger.recordUsage(event))).toMatchObject({
          code: 'archived_period',
        });
      }
      const results = await ledger.recordUsageBatch([replay, fresh]);
      expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected']);
    }
    const accepted = { ...fresh, created_at: `${daysAgo(8)}T00:00:00Z` };
    expect(await fixture.ledger.recordUsage(accepted)).toMatchObject({ status: 'recorded' });
    const both = await fixture.ledger.recordUsageBatch([fresh, accepted, { ...accepted }]);
    expect(both.map((result) => result.status)).toEqual(['rejected', 'recorded', 'recorded']);
    await fixture.expectExact();
  });

  it('is not passed while an import of raw rows has looked at it, and writes by that', async () => {
    const { pool } = fixture.database;
    const horizon = queryOnPool(pool, false);
    let isRaised = false;
    const raise = async () => {
      await raiseHorizon(horizon, `${daysAgo(8)}T00:00:00Z`);
      const waiting = waitForOlderTransactions(horizon, { waitMs: 0, onNotice: () => {} });
      await expect(waiting).rejects.toThrow('that began before the archive horizon are still open');
      isRaised = true;
    };
    /** Statements of it, with what comes between the look and the rows. */
    const stepping = <Client extends pg.Pool | pg.PoolClient>(client: Client): Client =>
      new Proxy(client, {
        get(target, name) {
          if (name === 'query') {
            return async (query: pg.QueryConfig) => {
              if (/insert into/.test(query.text ?? '')) await raise();
              return await target.query(query);
            };
          }
          if (name === 'connect') return async () => stepping(await (target as pg.Pool).connect());
          const value: unknown = Reflect.get(target, name);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    const event = { kilo_user_id: 'ann', cost: 5, created_at: `${LAST}T12:00:00Z` };
    const outcomes = await rawSink(stepping(pool))([event]);
    expect(outcomes).toEqual([{ status: 'recorded' }]);
    expect(isRaised).toBe(true);
    await waitForOlderTransactions(horizon, { waitMs: 60_000, onNotice: () => {} });
    expect(await rawSink(pool)([event])).toMatchObject([{ code: 'archived_period' }]);
  });

  it('is not passed before every older transaction has ended: its events are archived too', async () => {
    const client = await fixture.database.pool.connect();
    // The snapshot of the statement is old; so is what it thinks of the horizon.
    await client.query('begin isolation level repeatable read');
    await client.query('select 1 from ledger_settings');
    const notices: string[] = [];
    const late = randomUUID();
    let ended = false;
    const archiving = fixture.archive(LAST, {
      onNotice: async (message) => {
        notices.push(message);
        // As a writer with that snapshot would: it saw no horizon.
        await client.query(
          `insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
           values ($1, 'ann', 33, $2, microdollar_position())`,
          [late, `${FIRST}T10:00:00Z`],
        );
        expect(await fixture.archived()).toEqual([]);
        ended = true;
        await client.query('commit');
      },
    });
    await archiving;
    client.release();
    expect(ended).toBe(true);
    expect(notices.join()).toMatch(
      /waiting for transactions that began before the horizon: pid \d+/,
    );
    expect((await fixture.archived()).map((event) => event.id)).toContain(late);
    await fixture.expectExact();
  });

  it('names who is in the way, deletes nothing, and goes on later', async () => {
    const client = await fixture.database.pool.connect();
    await client.query('begin');
    const error = await ledgerErrorOf(fixture.archive(LAST, { waitMs: 300 }));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toMatch(/still open: pid \d+/);
    expect(await fixture.rawIds()).toHaveLength(fixture.events.length);
    await client.query('rollback');
    client.release();
    expect(await fixture.archive(LAST)).toMatchObject({ days: 4 });
    await fixture.expectExact();
  });

  it('waits for prepared transactions too: they may commit an event below it', async () => {
    const late = randomUUID();
    const client = await fixture.database.pool.connect();
    await client.query('begin');
    const event = { id: late, kilo_user_id: 'ann', cost: 7, created_at: `${FIRST}T10:00:00Z` };
    await insertUsageAndMetadataWithBalanceUpdate(client, event, null);
    await client.query(`prepare transaction '${late}'`);
    client.release();
    const error = await ledgerErrorOf(fixture.archive(LAST, { waitMs: 300 }));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toContain(`still open: ${late} (prepared transaction`);
    expect(await fixture.rawIds()).toHaveLength(fixture.events.length);
    await fixture.rows(`commit prepared '${late}'`);
    expect(await fixture.archive(LAST)).toMatchObject({ days: 4, failures: [] });
    expect((await fixture.archived()).map((each) => each.id)).toContain(late);
    expect(await ledgerErrorOf(fixture.ledger.recordUsage(event))).toMatchObject({
      code: 'archived_period',
    });
    await fixture.expectExact();
  });

  it('is raised again where a failover lost it while the archive waited for the database', async () => {
    let cuts = 0;
    let daysDone = 0;
    await fixture.archive(LAST, {
      onStep: (step) => {
        if (step === 'day archived') daysDone++;
      },
      fileSystem: {
        ...nodeArchiveFileSystem,
        async create(path) {
          // In the middle; as a promoted standby would have it that lacks the last commits.
          if (daysDone === 1 && cuts++ === 0) {
            await fixture.rows('update ledger_settings set archive_horizon = null');
            await fixture.rows(
              `select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name = 'microdollar rollup'`,
            );
          }
          return nodeArchiveFileSystem.create(path);
        },
      },
    });
    expect(cuts).toBeGreaterThan(0);
    const late = { kilo_user_id: 'ann', cost: 5, created_at: `${LAST}T23:59:59Z` };
    expect(await ledgerErrorOf(fixture.ledger.recordUsage(late))).toMatchObject({
      code: 'archived_period',
    });
    await fixture.expectExact();
  });

  it('is refused while a gateway request dated below it is in flight', async () => {
    await fixture.rows(
      `insert into gateway_intents (id, owner, kilo_user_id, api_kind, input_tokens_estimate,
         streamed, created_at)
       values (gen_random_uuid(), gen_random_uuid(), 'ann', 'chat', 1, false, $1)`,
      [`${LAST}T23:59:59Z`],
    );
    const error = await ledgerErrorOf(fixture.archive(LAST));
    expect(error.code).toBe('unproven_window');
    expect(error.message).toContain('gateway requests whose usage is not recorded yet');
    expect(error.details.blockers).toMatchObject([
      { kind: 'request_in_flight', day: LAST, rows: 1 },
    ]);
  });

  it('is refused, too late, where such a request came between the plan and the fence', async () => {
    const fileSystem = {
      ...nodeArchiveFileSystem,
      async makeDirectory(path: string) {
        await fixture.rows(
          `insert into gateway_intents (id, owner, kilo_user_id, api_kind, input_tokens_estimate,
             streamed, created_at)
           values (gen_random_uuid(), gen_random_uuid(), 'ann', 'chat', 1, false, $1)`,
          [`${LAST}T23:59:59Z`],
        );
        return await nodeArchiveFileSystem.makeDirectory(path);
      },
    };
    const error = await ledgerErrorOf(fixture.archive(LAST, { fileSystem }));
    expect(error.code).toBe('unproven_window');
    expect(error.message).toContain('The horizon is raised already');
    expect(await fixture.rawIds()).toHaveLength(fixture.events.length);
    await fixture.rows('delete from gateway_intents');
    expect(await fixture.archive(LAST)).toMatchObject({ days: 4 });
  });
});

describe('a row that a foreign program writes below the horizon', () => {
  it('is found by verify, and archived by a later run after a repair', async () => {
    const { url } = fixture.database;
    await fixture.archive(LAST);
    await fixture.rows(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       values (gen_random_uuid(), 'ann', 21, $1)`,
      [`${FIRST}T08:00:00Z`],
    );
    const { drifts } = await verifyRollup({ url, rollup: DAILY_ROLLUP });
    expect(drifts).toMatchObject([{ period: FIRST, driftMicrodollars: -21 }]);
    expect((await ledgerErrorOf(fixture.archive(LAST))).details.unproven_days).toEqual([FIRST]);
    await repairRollup({ url, rollup: DAILY_ROLLUP });
    await verifyBalances({ url, repair: true });
    expect(await fixture.archive(LAST)).toMatchObject({ days: 1, rows: 1, files: 1 });
    await fixture.expectExact();
  });
});
