import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { ExaUsage } from '../../src/record/types.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { setExaAllowance } from '../support/exaAllowance.js';
import {
  createLedgerFixture,
  foldAll,
  type LedgerFixture,
  ledgerErrorOf,
} from './ledgerHarness.js';

const ALLOWANCE = 1000;
const AT = '2025-05-06T07:08:09Z';

let fixture: LedgerFixture;
let ledger: Ledger;
let appending: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture({ ownServer: true });
  await setExaAllowance(fixture.database.pool, ALLOWANCE);
  ledger = await fixture.open();
  appending = await fixture.open({ appendAlways: true });
});

afterAll(() => fixture.close());

const months = (user: string, table = 'exa_monthly_usage') =>
  fixture.rows(
    `select month::text, total_cost_microdollars::integer as cost,
       total_charged_microdollars::integer as charged, request_count as requests,
       free_allowance_microdollars::integer as free
     from ${table} where kilo_user_id = $1 order by organization_id nulls first, month`,
    [user],
  );

describe.each(['settled at once', 'settled later'] as const)('recordExaUsage, %s', (way) => {
  const writer = () => (way === 'settled at once' ? ledger : appending);
  /** Base tables: current when the call resolved, else after the fold. */
  const settled = async () => {
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    if (way === 'settled later') await foldAll(ledger);
  };
  const record = (user: string, cost: number, more: Partial<ExaUsage> = {}) =>
    writer().recordExaUsage({
      kilo_user_id: user,
      cost,
      path: '/search',
      created_at: AT,
      ...more,
    });

  it('charges what exceeds the free allowance of the month, as part of the balance', async () => {
    const user = await fixture.addUser();
    expect((await record(user, 600)).new_microdollars_used).toBe(0);
    expect((await record(user, 400)).new_microdollars_used).toBe(0);
    expect((await record(user, 1)).new_microdollars_used).toBe(1);
    expect((await record(user, 250)).new_microdollars_used).toBe(251);
    await writer().recordUsage({ kilo_user_id: user, cost: 5 });
    expect(await ledger.getUserBalance(user)).toBe(256);
    await settled();
    expect(await months(user)).toEqual([
      { month: '2025-05-01', cost: 1251, charged: 251, requests: 4, free: ALLOWANCE },
    ]);
    await fixture.expectExact();
  });

  it('gives the charge back when a correction takes the total below the allowance', async () => {
    const user = await fixture.addUser();
    await record(user, 1500);
    expect((await record(user, -700)).new_microdollars_used).toBe(0);
    expect((await record(user, 300)).new_microdollars_used).toBe(100);
    await fixture.expectExact();
  });

  it('counts by UTC month, and each organization apart', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    await record(user, 1100, { created_at: '2025-04-30T23:59:59.999999Z' });
    await record(user, 1010, { created_at: '2025-05-01T00:00:00Z' });
    await record(user, 1001, { created_at: '2025-05-31T20:00:00-05:00' });
    const paid = await record(user, 1500, { organization_id: organization });
    expect(paid.new_microdollars_used).toBe(500);
    expect(await ledger.getUserBalance(user)).toBe(111);
    await settled();
    expect((await months(user)).map((month) => [month.month, month.charged])).toEqual([
      ['2025-04-01', 100],
      ['2025-05-01', 10],
      ['2025-06-01', 1],
      ['2025-05-01', 500],
    ]);
    await fixture.expectExact();
  });

  it('logs a request without cost, and counts nothing', async () => {
    const user = await fixture.addUser();
    expect(await record(user, 0)).toMatchObject({ status: 'recorded', new_microdollars_used: 0 });
    await settled();
    expect(await months(user)).toEqual([]);
    const log = 'select path, cost::integer from exa_usage_log where kilo_user_id = $1';
    expect(await fixture.rows(log, [user])).toEqual([{ path: '/search', cost: 0 }]);
    await fixture.expectExact();
  });

  it('is idempotent by id', async () => {
    const user = await fixture.addUser();
    const id = randomUUID();
    const first = await record(user, 1500, { id });
    expect(first).toMatchObject({
      id,
      status: 'recorded',
      created_at: '2025-05-06T07:08:09.000000Z',
    });
    expect(await record(user, 1500, { id })).toEqual({ ...first, status: 'duplicate' });
    await settled();
    expect(await months(user)).toMatchObject([{ cost: 1500, requests: 1 }]);
    await fixture.expectExact();
  });

  it('keeps the allowance that a month’s row was made with; new months take the new one', async () => {
    const user = await fixture.addUser();
    const usage = { kilo_user_id: user, path: '/search', created_at: AT };
    await record(user, 900);
    await settled();
    await setExaAllowance(fixture.database.pool, 1_000_000);
    try {
      expect((await writer().recordExaUsage({ ...usage, cost: 900 })).new_microdollars_used).toBe(
        800,
      );
      const next = { ...usage, cost: 5000, created_at: '2025-06-01T00:00:00Z' };
      expect((await writer().recordExaUsage(next)).new_microdollars_used).toBe(800);
      expect(await months(user, 'exa_monthly_usage_exact')).toMatchObject([
        { charged: 800, free: ALLOWANCE },
        { charged: 0, free: 1_000_000 },
      ]);
      await settled();
    } finally {
      await setExaAllowance(fixture.database.pool, ALLOWANCE);
    }
    // Made while the other allowance was in force, by whoever settled it.
    expect(await months(user)).toMatchObject([
      { charged: 800, free: ALLOWANCE },
      { charged: 0, free: 1_000_000 },
    ]);
    await fixture.expectExact();
  });

  it('derives the charge from the exact total when many write at once', async () => {
    const users = await Promise.all([fixture.addUser(), fixture.addUser()]);
    const organization = await fixture.addOrganization();
    const rivals = await Promise.all(
      [1, 2, 3].map((index) =>
        fixture.open({
          appendAlways: index === 1,
          backgroundFold: index === 2,
        }),
      ),
    );
    const results = await Promise.all(
      Array.from({ length: 150 }, (_, index) => {
        const rival = rivals[index % 3] as Ledger;
        return rival.recordExaUsage({
          kilo_user_id: users[index % 2] as string,
          organization_id: index % 5 === 0 ? organization : null,
          cost: (index % 7) * 10 - 10,
          path: '/contents',
          created_at: AT,
        });
      }),
    );
    expect(results.every(({ status }) => status === 'recorded')).toBe(true);
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    await Promise.all(rivals.map((rival) => rival.close()));
    await fixture.expectExact();
    const [total] = await fixture.rows(
      `select sum(cost)::integer as cost from exa_usage_log
       where kilo_user_id = $1 and organization_id is null`,
      [users[0]],
    );
    expect(await ledger.getUserBalance(users[0] ?? '')).toBe(
      Math.max(0, (total?.cost as number) - ALLOWANCE),
    );
  });
});

describe('what recordExaUsage refuses', () => {
  const base = { kilo_user_id: 'u', cost: 1, path: '/search' };
  it.each<[name: string, change: object, code: string, field: string]>([
    ['no path', { path: undefined }, 'invalid_event', 'path'],
    ['an empty path', { path: '' }, 'invalid_event', 'path'],
    ['a path that is no text', { path: 7 }, 'invalid_event', 'path'],
    ['a long path', { path: 'x'.repeat(513) }, 'invalid_event', 'path'],
    ['a fractional cost', { cost: 1.5 }, 'invalid_event', 'cost'],
    ['no user', { kilo_user_id: undefined }, 'invalid_event', 'kilo_user_id'],
    ['a field of usage events', { input_tokens: 5 }, 'invalid_event', 'input_tokens'],
    ['an unknown field', { query: 'x' }, 'invalid_event', 'query'],
    ['an id that is no UUID', { id: '7' }, 'invalid_event', 'id'],
    ['a time ahead', { created_at: '9999-01-01T00:00:00Z' }, 'invalid_event', 'created_at'],
    ['an unknown user', { kilo_user_id: 'nobody' }, 'unknown_user', 'kilo_user_id'],
  ])('%s, naming the field, and without a retry', async (_, change, code, field) => {
    const error = await ledgerErrorOf(ledger.recordExaUsage({ ...base, ...change } as ExaUsage));
    expect(error).toMatchObject({ code, details: { field } });
    expect((await ledger.metrics.retries.get()).values).toEqual([]);
  });

  it('an unknown organization, and a period that is archived', async () => {
    const user = await fixture.addUser();
    const usage = { ...base, kilo_user_id: user };
    const unknown = { ...usage, organization_id: randomUUID() };
    expect(await ledgerErrorOf(ledger.recordExaUsage(unknown))).toMatchObject({
      code: 'unknown_organization',
      details: { field: 'organization_id' },
    });
    await fixture.rows(`update ledger_settings set archive_horizon = '2020-01-01T00:00:00Z'`);
    const old = { ...usage, created_at: '2019-12-31T23:59:59.999999Z' };
    expect(await ledgerErrorOf(ledger.recordExaUsage(old))).toMatchObject({
      code: 'archived_period',
      details: { field: 'created_at' },
    });
    expect((await ledger.metrics.retries.get()).values).toEqual([]);
    await fixture.rows('update ledger_settings set archive_horizon = null');
    await fixture.expectExact();
  });
});
