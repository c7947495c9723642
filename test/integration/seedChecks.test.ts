import { drizzle } from 'drizzle-orm/node-postgres';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { RecordResult, UsageEvent } from '../../src/record/types.js';
import { openPool } from '../support/openPool.js';
import {
  createLedgerFixture,
  foldAll,
  type LedgerFixture,
  ORGANIZATION_DAILY,
  PERSONAL_DAILY,
  resolveLookups,
} from './ledgerHarness.js';

/** What the seed's author checked by hand, on every way in. */
let fixture: LedgerFixture;
let ledger: Ledger;
let appendAlways: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture({ ownServer: true });
  ledger = await fixture.open();
  appendAlways = await fixture.open({ appendAlways: true });
});

afterAll(() => fixture.close());

interface WayIn {
  name: string;
  /** Base tables are right when the call resolves, without a fold. */
  isCurrent: boolean;
  record(event: UsageEvent): Promise<RecordResult>;
}

const insert = (
  executor: Parameters<typeof insertUsageAndMetadataWithBalanceUpdate>[0],
  { metadata, ...core }: UsageEvent,
) => insertUsageAndMetadataWithBalanceUpdate(executor, core, metadata ?? null);

const balanceOf = ({ organization_id, kilo_user_id }: UsageEvent) =>
  organization_id
    ? ledger.getOrganizationBalance(organization_id)
    : ledger.getUserBalance(kilo_user_id);

const withClient = async (work: (client: pg.PoolClient) => Promise<RecordResult>) => {
  const client = await fixture.database.pool.connect();
  try {
    return await work(client);
  } finally {
    client.release();
  }
};

const WAYS_IN: readonly WayIn[] = [
  { name: 'recordUsage', isCurrent: true, record: (event) => ledger.recordUsage(event) },
  {
    name: 'recordUsageBatch, beside an event of someone else',
    isCurrent: true,
    record: async (event) => {
      const other = await fixture.addUser();
      const results = await ledger.recordUsageBatch([{ kilo_user_id: other, cost: 1 }, event]);
      return results[1] as RecordResult;
    },
  },
  {
    name: 'recordUsage, always appending',
    isCurrent: false,
    record: (event) => appendAlways.recordUsage(event),
  },
  {
    name: 'recordUsage, not asking for the balance',
    isCurrent: false,
    record: async (event) => {
      const recorded = await ledger.recordUsage(event, { balance: false });
      expect(recorded).not.toHaveProperty('new_microdollars_used');
      return { ...recorded, new_microdollars_used: await balanceOf(event) };
    },
  },
  {
    name: 'insertUsageAndMetadataWithBalanceUpdate on a pool',
    isCurrent: true,
    record: (event) => insert(fixture.database.pool, event),
  },
  {
    name: 'insertUsageAndMetadataWithBalanceUpdate on a Drizzle database',
    isCurrent: true,
    record: (event) => insert(drizzle(fixture.database.pool), event),
  },
  {
    name: 'insertUsageAndMetadataWithBalanceUpdate on a client',
    isCurrent: false,
    record: (event) => withClient((client) => insert(client, event)),
  },
  {
    name: 'insertUsageAndMetadataWithBalanceUpdate in a transaction of the caller',
    isCurrent: false,
    record: (event) =>
      withClient(async (client) => {
        await client.query('begin');
        const result = await insert(client, event);
        await client.query('commit');
        return result;
      }),
  },
  {
    name: 'insertUsageAndMetadataWithBalanceUpdate in a Drizzle transaction',
    isCurrent: false,
    record: (event) =>
      drizzle(fixture.database.pool).transaction((transaction) => insert(transaction, event)),
  },
];

/** Base rows after the write: at once on the ways in that settle it, else after the fold. */
async function base(way: WayIn, text: string, values: unknown[]) {
  if (!way.isCurrent) await foldAll(ledger);
  return await fixture.rows(text, values);
}

const AT = '2025-03-14T15:09:26.535897Z';
const DAY = '2025-03-14';

describe.each(WAYS_IN)('$name', (way) => {
  it('leaves a daily row with its total after the first event of a day', async () => {
    const user = await fixture.addUser();
    const result = await way.record({ kilo_user_id: user, cost: 120, created_at: AT });
    expect(result).toMatchObject({
      status: 'recorded',
      created_at: AT,
      new_microdollars_used: 120,
    });
    const exact = 'select * from microdollar_usage_daily_exact where kilo_user_id = $1';
    expect(await fixture.rows(exact, [user])).toMatchObject([{ total_cost_microdollars: '120' }]);
    expect(await base(way, PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 120 }]);
    await fixture.expectExact();
  });

  it('increments the same row for the second event, and the balance with it', async () => {
    const user = await fixture.addUser();
    await way.record({ kilo_user_id: user, cost: 120, created_at: AT });
    const second = await way.record({ kilo_user_id: user, cost: 30, created_at: AT });
    expect(second.new_microdollars_used).toBe(150);
    expect(await base(way, PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 150 }]);
    const used = 'select microdollars_used::integer as used from kilocode_users where id = $1';
    expect(await fixture.rows(used, [user])).toEqual([{ used: 150 }]);
    await fixture.expectExact();
  });

  it('gives an organization event a row of its own, and leaves the personal row', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    await way.record({ kilo_user_id: user, cost: 120, created_at: AT });
    const result = await way.record({
      kilo_user_id: user,
      organization_id: organization,
      cost: 7,
      created_at: AT,
    });
    expect(result.new_microdollars_used).toBe(7);
    expect(await base(way, ORGANIZATION_DAILY, [user, organization])).toEqual([
      { usage_date: DAY, total: 7 },
    ]);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: 120 }]);
    await fixture.expectExact();
  });

  it('stores a zero-cost event and touches neither rollup nor balance', async () => {
    const user = await fixture.addUser();
    const result = await way.record({ kilo_user_id: user, cost: 0, created_at: AT });
    expect(result).toMatchObject({ status: 'recorded', new_microdollars_used: 0 });
    expect(await base(way, PERSONAL_DAILY, [user])).toEqual([]);
    const raw = 'select count(*)::integer as n from microdollar_usage where kilo_user_id = $1';
    expect(await fixture.rows(raw, [user])).toEqual([{ n: 1 }]);
    await fixture.expectExact();
  });

  it('moves raw, rollup and balance alike for a negative cost', async () => {
    const user = await fixture.addUser();
    await way.record({ kilo_user_id: user, cost: 120, created_at: AT });
    const refund = await way.record({ kilo_user_id: user, cost: -500, created_at: AT });
    expect(refund.new_microdollars_used).toBe(-380);
    expect(await base(way, PERSONAL_DAILY, [user])).toEqual([{ usage_date: DAY, total: -380 }]);
    await fixture.expectExact();
  });

  it('files an instant under its UTC calendar day, whatever its offset', async () => {
    const user = await fixture.addUser();
    for (const [cost, created_at] of [
      [1, '2025-03-13T23:59:59.999999Z'],
      [10, '2025-03-14T00:00:00Z'],
      [100, '2025-03-13T19:00:00-05:00'],
      [1000, '2025-03-15T05:29:59.999999+05:30'],
      [10_000, '2025-03-15T05:30:00+05:30'],
    ] as const) {
      await way.record({ kilo_user_id: user, cost, created_at });
    }
    expect(await base(way, PERSONAL_DAILY, [user])).toEqual([
      { usage_date: '2025-03-13', total: 1 },
      { usage_date: '2025-03-14', total: 1110 },
      { usage_date: '2025-03-15', total: 10_000 },
    ]);
    await fixture.expectExact();
  });

  it('writes the metadata beside the usage row', async () => {
    const user = await fixture.addUser();
    // In a transaction of the caller a new lookup value stays text until then.
    const metadata = { editor_name: 'vs "code" \\ {}', feature: 'chat', latency: 12.5 };
    const { id } = await way.record({ kilo_user_id: user, cost: 1, created_at: AT, metadata });
    await resolveLookups(fixture, ledger);
    const stored = await fixture.rows(
      `select editor_name, feature, m.latency, m.lookup_values,
         m.created_at = u.created_at as same_time
       from microdollar_usage_metadata as m
       join microdollar_usage as u using (id)
       left join editor_name using (editor_name_id)
       left join feature using (feature_id)
       where m.id = $1`,
      [id],
    );
    expect(stored).toEqual([{ ...metadata, lookup_values: null, same_time: true }]);
  });
});

describe('time zones', () => {
  it.each(['America/New_York', 'Asia/Kolkata', 'Pacific/Kiritimati'])(
    'computes the day as UTC under the session time zone %s',
    async (zone) => {
      const user = await fixture.addUser();
      const pool = openPool({
        connectionString: fixture.database.url,
        options: `-c timezone=${zone}`,
      });
      try {
        const core = { kilo_user_id: user, cost: 5 };
        for (const created_at of ['2025-03-13T23:59:59.999999Z', '2025-03-14T00:00:00.000001Z']) {
          const result = await insert(pool, { ...core, created_at });
          expect(result.created_at).toBe(created_at.replace('00:00Z', '00:00.000000Z'));
        }
      } finally {
        await pool.end();
      }
      expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([
        { usage_date: '2025-03-13', total: 5 },
        { usage_date: '2025-03-14', total: 5 },
      ]);
      await fixture.expectExact();
    },
  );
});

describe('a transaction of the caller', () => {
  it('that rolls back leaves nothing', async () => {
    const user = await fixture.addUser();
    await withClient(async (client) => {
      await client.query('begin');
      const result = await insert(client, { kilo_user_id: user, cost: 9, created_at: AT });
      expect(result.new_microdollars_used).toBe(9);
      await client.query('rollback');
      return result;
    });
    expect(await ledger.getUserBalance(user)).toBe(0);
    await fixture.expectExact();
  });

  it('sees its own earlier writes in the balance it is told', async () => {
    const user = await fixture.addUser();
    await ledger.recordUsage({ kilo_user_id: user, cost: 100 });
    const balances = await drizzle(fixture.database.pool).transaction(async (transaction) => {
      const first = await insert(transaction, { kilo_user_id: user, cost: 10 });
      const second = await insert(transaction, { kilo_user_id: user, cost: 1 });
      return [first.new_microdollars_used, second.new_microdollars_used];
    });
    expect(balances).toEqual([110, 111]);
    await fixture.expectExact();
  });
});
