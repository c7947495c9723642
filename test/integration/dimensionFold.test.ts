import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import {
  type DimensionRollup,
  exactRows,
  METRIC_NAMES,
  QUARTER_HOURLY,
} from '../../src/schema/dimensionRollups.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { insertMicrodollarUsageWithDailyRollup } from '../../src/testing/insertUsage.js';
import { findDifferences } from '../support/dimensionTruth.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

let fixture: LedgerFixture;
let ledger: Ledger;
beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});
afterAll(() => fixture?.close());

const pool = () => fixture.database.pool;

function folder(rollups?: readonly DimensionRollup[], onError?: (error: unknown) => void) {
  return new DimensionFolder({
    query: async ({ text, values }) => (await pool().query(text, values)).rows,
    ...(rollups ? { rollups } : {}),
    onError: onError ?? ((error) => expect.fail(String(error))),
  });
}

const reported = () => findDifferences(pool(), QUARTER_HOURLY, 'reported');
const counters = () => findDifferences(pool(), QUARTER_HOURLY, 'counters');

async function sumOf(column: string, where = 'true'): Promise<number> {
  const [row] = await fixture.rows<{ sum: string }>(
    `select coalesce(sum(${column}), 0) as sum from ${QUARTER_HOURLY.name} where ${where}`,
  );
  return Number(row?.sum);
}

it('every way to write is reported at once, and is in the counter rows after a fold', async () => {
  const user = await fixture.addUser();
  const organization = await fixture.addOrganization();
  await fixture.rows('insert into organization_memberships values ($1, $2)', [organization, user]);
  const api_key_id = randomUUID();
  const base = { kilo_user_id: user, model: 'm', provider: 'p', input_tokens: 7 };
  const events = [
    { ...base, cost: 5, api_key_id },
    { ...base, cost: 0, has_error: true, cache_hit_tokens: 3 },
    { ...base, cost: -2, project_id: 'x', organization_id: organization },
    { ...base, cost: 9, model: null, created_at: '2026-01-31T23:59:59.999999Z' },
    { ...base, cost: 9, model: '', created_at: '2026-02-01T00:00:00Z' },
  ];
  for (const event of events) await ledger.recordUsage(event);
  await ledger.recordUsageBatch([...events, ...events]);
  await insertUsageAndMetadataWithBalanceUpdate(pool(), events[0] as never, {});
  await insertUsageAndMetadataWithBalanceUpdate(pool(), events[1] as never, {});
  await insertMicrodollarUsageWithDailyRollup(pool(), events);
  expect(await reported()).toEqual([]);
  expect(await sumOf('requests')).toBe(0);
  await folder().foldAll();
  expect(await reported()).toEqual([]);
  expect(await counters()).toEqual([]);
  expect(await sumOf('requests', `kilo_user_id = '${user}'`)).toBe(22);
  expect(await sumOf('errors', `kilo_user_id = '${user}'`)).toBe(5);
  await folder().foldAll();
  expect(await counters()).toEqual([]);
  await fixture.expectExact();
});

describe('with transactions open beside', () => {
  it('what they write later is an exception, and folded when it has ended', async () => {
    const user = await fixture.addUser();
    const event = { kilo_user_id: user, cost: 3, model: 'm' };
    const early = await pool().connect();
    try {
      for (const ends of ['commit', 'rollback']) {
        await early.query('begin');
        await early.query('select txid_current()');
        await ledger.recordUsage(event);
        await insertUsageAndMetadataWithBalanceUpdate(early, event as never, {});
        await folder().foldAll();
        expect(await reported()).toEqual([]);
        await ledger.recordUsage({ ...event, cost: 0 });
        await folder().foldAll();
        await early.query(ends);
        expect(await reported()).toEqual([]);
        await folder().foldAll();
        expect(await counters()).toEqual([]);
      }
      expect(await sumOf('requests', `kilo_user_id = '${user}'`)).toBe(5);
    } finally {
      early.release();
    }
  });

  it('a counter row that is held leaves the whole tail of its payer, and no other', async () => {
    const [held, free] = [await fixture.addUser(), await fixture.addUser()];
    for (const user of [held, free]) await ledger.recordUsage({ kilo_user_id: user, cost: 1 });
    await folder().foldAll();
    for (const user of [held, free]) {
      await ledger.recordUsage({ kilo_user_id: user, cost: 1 });
      await ledger.recordUsage({ kilo_user_id: user, cost: 1, model: 'new' });
    }
    const holder = await pool().connect();
    const failures: unknown[] = [];
    try {
      await holder.query('begin');
      await holder.query(`select from ${QUARTER_HOURLY.name} where kilo_user_id = $1 for update`, [
        held,
      ]);
      const patient = await pool().connect();
      await patient.query('set lock_timeout = 50');
      await new DimensionFolder({
        query: async ({ text, values }) => (await patient.query(text, values)).rows,
        onError: (error) => failures.push(error),
      }).foldAll();
      await patient.query('reset lock_timeout');
      patient.release();
      expect(failures).toHaveLength(1);
      expect(await sumOf('requests', `kilo_user_id = '${held}'`)).toBe(1);
      expect(await sumOf('requests', `kilo_user_id = '${free}'`)).toBe(3);
      expect(await reported()).toEqual([]);
      // No writer waits for it.
      await ledger.recordUsage({ kilo_user_id: held, cost: 1 });
      await holder.query('rollback');
    } finally {
      holder.release();
    }
    await folder().foldAll();
    expect(await counters()).toEqual([]);
  });

  it('a statement that runs into its time is split, not sent again, and takes so many rows', async () => {
    const users = await Promise.all(Array.from({ length: 40 }, () => fixture.addUser()));
    const write = () => users.map((id) => ledger.recordUsage({ kilo_user_id: id, cost: 1 }));
    await Promise.all(write());
    await folder().foldAll();
    await Promise.all(write());
    const sent: string[] = [];
    const lengths: number[] = [];
    const patient = new DimensionFolder({
      rollups: [QUARTER_HOURLY],
      query: async ({ text, values }) => {
        if (!text.includes('microdollar.foldRollup'))
          return (await pool().query(text, values)).rows;
        const [ids, rows] = values as [string, number];
        sent.push(ids);
        const payers = ids.split('user ').length - 1;
        lengths.push(payers * rows);
        if (payers > 1) throw Object.assign(new Error('statement timeout'), { code: '57014' });
        return (await pool().query(text, values)).rows;
      },
    });
    expect(await patient.fold(USER_SCOPE, users)).toBe(users.length);
    expect(new Set(sent).size).toBe(sent.length);
    // Of a statement that ran into its time the halves are half as long.
    const whole = lengths[0] ?? 0;
    expect([whole <= 200_000, (lengths[1] ?? whole) <= whole / 2 + users.length]).toEqual([
      true,
      true,
    ]);
    expect(await reported()).toEqual([]);
  });

  it('one payer whose rows run into the time of a statement is folded by fewer of them', async () => {
    const user = await fixture.addUser();
    const write = () => ledger.recordUsage({ kilo_user_id: user, cost: 1 });
    await write();
    await folder().foldAll();
    for (let n = 0; n < 3; n++) await write();
    const asked: number[] = [];
    const failures: unknown[] = [];
    const slow = new DimensionFolder({
      rollups: [QUARTER_HOURLY],
      onError: (error) => failures.push(error),
      query: async ({ text, values }) => {
        if (text.includes('microdollar.foldRollup')) {
          asked.push(values[1] as number);
          if ((values[1] as number) > 1_000) {
            throw Object.assign(new Error('statement timeout'), { code: '57014' });
          }
        }
        return (await pool().query(text, [...values])).rows;
      },
    });
    expect(await slow.fold(USER_SCOPE, [user])).toBe(3);
    expect([failures, asked.at(-1)]).toEqual([[], 313]);
    expect(await reported()).toEqual([]);
  });

  it('two folds at once count everything once', async () => {
    const users = await Promise.all(Array.from({ length: 20 }, () => fixture.addUser()));
    const writing = Array.from({ length: 300 }, (_, index) =>
      ledger.recordUsage({
        kilo_user_id: users[index % 20] as string,
        cost: index % 3,
        model: `m${index % 5}`,
      }),
    );
    await Promise.all([...Array.from({ length: 6 }, () => folder().foldAll()), ...writing]);
    expect(await reported()).toEqual([]);
    await folder().foldAll();
    expect(await counters()).toEqual([]);
  });
});

it('a further rollup is a declaration and its table', async () => {
  const second: DimensionRollup = {
    name: 'usage_by_model_hourly',
    minutes: 60,
    dimensions: ['model'],
  };
  await fixture.rows(`create table ${second.name} (
    id uuid primary key, kilo_user_id text not null, organization_id uuid,
    period_start timestamptz not null, model text,
    ${METRIC_NAMES.map((name) => `${name} numeric not null`).join(', ')})`);
  await fixture.rows(`create view ${second.name}_exact as ${exactRows(second)}`);
  const user = await fixture.addUser();
  const before = await fixture.rows('select from microdollar_usage where position is null');
  expect(before).toHaveLength(0);
  await fixture.rows(`insert into rollup_starts values ('${second.name}', 0, '-infinity')`);
  await ledger.recordUsage({ kilo_user_id: user, cost: 4, model: 'm' });
  expect(await findDifferences(pool(), second, 'reported')).toEqual([]);
  await folder([second]).foldAll();
  expect(await findDifferences(pool(), second, 'counters')).toEqual([]);
  expect(await reported()).toEqual([]);
});

it('begins a rollup again whose start was lost, with a process that had begun it', async () => {
  const own = await createLedgerFixture();
  onTestFinished(() => own.close());
  const user = await own.addUser();
  const { pool: hosts } = own.database;
  const write = () =>
    insertUsageAndMetadataWithBalanceUpdate(hosts, { kilo_user_id: user, cost: 1 });
  const folding = new DimensionFolder({
    query: async ({ text, values }) => (await hosts.query(text, values)).rows,
    rollups: [QUARTER_HOURLY],
  });
  await write();
  await folding.foldAll();
  // The end of the log is lost: the fold's commits are not waited for.
  for (const table of ['rollup_starts', 'rollup_marks', QUARTER_HOURLY.name]) {
    await own.rows(`delete from ${table}`);
  }
  await folding.foldAll();
  await write();
  expect(await folding.foldAll()).toBe(1);
});
