import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createOrganization } from '../../src/accounts/organizations.js';
import { createUser } from '../../src/accounts/users.js';
import { topStatement } from '../../src/cli/top.sql.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { inForm } from '../support/form.js';
import { useCli } from './cliHarness.js';

const cli = useCli();
let ledger: Ledger;
const USERS = ['ada', 'bob', 'cid'];
const ORGANIZATIONS = [randomUUID(), randomUUID()];
const DAYS = ['2026-01-01', '2026-01-02', '2026-01-03'];

beforeAll(async () => {
  ledger = await createLedger({ databaseUrl: cli.database.url });
  for (const id of USERS) await createUser(ledger.pool, { id, name: `name of ${id}` });
  for (const id of ORGANIZATIONS) await createOrganization(ledger.pool, { id, name: 'acme' });
});
afterAll(() => ledger?.close());

interface Payer {
  kilo_user_id: string | null;
  organization_id: string | null;
  cost_microdollars: number;
}

/** The same from usage itself: what cost nothing is in no counter. */
async function sums(from: string, until: string): Promise<Payer[]> {
  const { rows } = await cli.database.pool.query<Payer>(
    `select case when organization_id is null then kilo_user_id end as kilo_user_id,
       organization_id, sum(cost)::integer as cost_microdollars
     from microdollar_usage
     where (created_at at time zone 'UTC')::date between $1::date and $2::date and cost <> 0
     group by 1, 2 order by 3 desc, 1, 2`,
    [from, until],
  );
  return rows;
}

const usage = fc.record({
  user: fc.constantFrom(...USERS),
  organization: fc.constantFrom(null, null, ...ORGANIZATIONS),
  day: fc.constantFrom(...DAYS),
  time: fc.constantFrom('00:00:00Z', '12:00:00Z', '23:59:59.999999Z'),
  cost: fc.integer({ min: -50, max: 1_000 }),
});

it('says what usage sums to, folded or not, of any days and however many are listed', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(usage, { minLength: 1, maxLength: 20 }),
      fc.boolean(),
      fc.tuple(fc.nat(2), fc.nat(2)),
      fc.integer({ min: 1, max: 6 }),
      async (rows, isFolded, [a, b], limit) => {
        await ledger.recordUsageBatch(
          rows.map(({ user, organization, day, time, cost }) => ({
            kilo_user_id: user,
            organization_id: organization,
            cost,
            created_at: `${day}T${time}`,
          })),
        );
        if (isFolded) await cli.ask('fold');
        const [from = '', until = ''] = [DAYS[Math.min(a, b)], DAYS[Math.max(a, b)]];
        const range = ['--from', from, '--until', until];
        const { status, document } = await cli.ask('top', ...range, '--limit', String(limit));
        const truth = await sums(from, until);
        expect(status).toBe(0);
        expect(document.payers.map(({ name: _, ...payer }: { name: string }) => payer)).toEqual(
          truth.slice(0, limit),
        );
        expect(document).toMatchObject({
          payer_count: truth.length,
          total_cost_microdollars: truth.reduce((sum, row) => sum + row.cost_microdollars, 0),
        });
      },
    ),
    {
      numRuns: inForm(6, 12),
      // Its payer used what cost nothing, alone.
      examples: [
        [
          [{ user: 'bob', organization: null, day: '2026-01-03', time: '12:00:00Z', cost: 0 }],
          true,
          [2, 2],
          3,
        ],
      ],
    },
  );
});

it('shows names, the rest and the total', async () => {
  const range = ['--from', '2026-01-01', '--until', '2026-01-31'];
  const { stdout } = await cli.run('top', ...range, '--limit', '1');
  expect(stdout).toMatch(/^payer +of +name +cost\n/);
  expect(stdout).toMatch(/\n[^\n]+ (user|organization) +(name of \w+|acme) +0\.\d{6} USD\n/);
  expect(stdout).toMatch(
    /\n\d more +-?0\.\d{6} USD\ntotal +0\.\d{6} USD\n2026-01-01 to 2026-01-31/,
  );
  const none = ['--from', '2025-01-01', '--until', '2025-01-02'];
  expect((await cli.run('top', ...none)).stdout).toBe('no usage\n');
});

it('counts a payer on its way to another shard where it is at home alone', async () => {
  const pool = cli.database.pool;
  const range = ['--from', '2026-01-01', '--until', '2026-01-03'];
  const all = (await cli.ask('top', ...range)).document;
  for (const [index, table] of [
    ['kilo_user_id', 'kilocode_users'],
    ['organization_id', 'organizations'],
  ] as const) {
    const gone = all.payers.find((payer: Payer) => payer[index] !== null);
    const set = (isElsewhere: boolean) =>
      pool.query(`update ${table} set is_elsewhere = $2 where id = $1`, [gone[index], isElsewhere]);
    await set(true);
    expect((await cli.ask('top', ...range)).document).toMatchObject({
      payers: all.payers.filter((payer: Payer) => payer !== gone),
      payer_count: all.payer_count - 1,
      total_cost_microdollars: all.total_cost_microdollars - gone.cost_microdollars,
    });
    await set(false);
  }
});

it('looks for days by their index and into the log by payer', async () => {
  const pool = cli.database.pool;
  const { text, values } = topStatement({ from: '2026-01-01', until: '2026-01-02', limit: 3 });
  const client = await pool.connect();
  try {
    // So small a table is read whole; on any the plan must be possible without.
    await client.query('begin; set local enable_seqscan = off');
    const { rows } = await client.query(`explain ${text}`, values);
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).not.toMatch(/Seq Scan on microdollar_usage/);
    expect(plan).toContain('idx_microdollar_usage_unsettled');
  } finally {
    await client.query('rollback');
    client.release();
  }
});

it.each([
  ['--from', '2026-01-01', '--until', '2026-02-01'],
  ['--from', '2026-01-02', '--until', '2026-01-01'],
  ['--from', 'soon'],
  ['--limit', '0'],
])('%s %s is a usage error', async (...argv) => {
  expect((await cli.run('top', ...argv)).status).toBe(2);
});

it('refuses days of which counter rows are not proven, and names them', async () => {
  // Else the ledger, which follows, would say of every day that it is not proven by construction any more.
  await cli.database.pool.query(`update ledger_settings set read_mode = 'raw'`);
  await cli.database.pool.query(
    `insert into rollup_coverage (rollup, period, state, drift_keys)
     values ('microdollar_usage_daily', '2026-01-02', 'verified', 1)
     on conflict (rollup, period) do update set drift_keys = 1`,
  );
  const { document } = await cli.ask('top', '--from', '2026-01-01', '--until', '2026-01-03');
  expect(document.error).toMatchObject({
    code: 'unproven_window',
    details: { unproven_days: ['2026-01-02'] },
  });
  expect((await cli.ask('top', '--from', '2026-01-03', '--until', '2026-01-03')).status).toBe(0);
});

it('needs no proof of days that have nothing: nobody builds those to come', async () => {
  const pool = cli.database.pool;
  await pool.query('update ledger_settings set installed_empty = false');
  await pool.query(
    `insert into rollup_coverage (rollup, period, state, verified_at)
     select 'microdollar_usage_daily', unnest($1::date[]), 'verified', now()
     on conflict (rollup, period) do update
     set state = excluded.state, verified_at = excluded.verified_at, drift_keys = 0`,
    [DAYS],
  );
  const january = ['--from', '2026-01-01', '--until', '2026-01-31'];
  expect((await cli.ask('top', ...january)).status).toBe(0);
  // Another program's row.
  await pool.query(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     values (gen_random_uuid(), 'ada', 5, '2026-01-20T12:00:00Z')`,
  );
  const { document } = await cli.ask('top', ...january);
  expect(document.error.details).toEqual({ unproven_days: ['2026-01-20'] });
});
