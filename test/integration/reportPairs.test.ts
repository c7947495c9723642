import { afterAll, beforeAll, expect, it } from 'vitest';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { queryInTurns, queryOnPool, snapshotOnPool } from '../../src/db/query.js';
import { createMetrics } from '../../src/metrics.js';
import { readReportQuery } from '../../src/report/usage/query.js';
import { UsageReports } from '../../src/report/usage/usageReport.js';
import { type ReportedRow, usageReportStatement } from '../../src/report/usage/usageReport.sql.js';
import { openPool } from '../support/openPool.js';
import { startTestServer, type TestServer } from './serverHarness.js';

/** The largest pairs of two groups beside a report, of its snapshot; and what members in it are called. */
let service: TestServer;
let owner: { id: string; key: string };
let member: { id: string; key: string };
let organization: string;
const RANGE = { from: '2026-02-25', until: '2026-03-30' };

beforeAll(async () => {
  service = await startTestServer();
  owner = await service.newUser();
  member = await service.newUser();
  organization = await service.newOrganization(member.id);
  await addOrganizationMember(service.database.pool, organization, owner.id, 'owner');
  await service.database.pool.query('update kilocode_users set name = $2 where id = $1', [
    member.id,
    'Ada',
  ]);
  await service.ledger.recordUsageBatch(
    [
      { kilo_user_id: member.id, model: 'a', cost: 5, created_at: '2026-02-26T23:30:00Z' },
      { kilo_user_id: member.id, model: 'a', cost: 7, created_at: '2026-03-28T23:30:00Z' },
      { kilo_user_id: member.id, model: 'b', cost: 20 },
      { kilo_user_id: owner.id, model: 'a', cost: 3 },
      { kilo_user_id: owner.id, cost: 30, input_tokens: 9 },
    ].map((event) => ({
      created_at: '2026-03-29T10:00:00Z',
      organization_id: organization,
      ...event,
    })),
  );
});
afterAll(() => service?.stop());

const asked = () => ({ ...RANGE, organization_id: organization });

it('are those of the range, the largest first and the rest last, as by tRPC', async () => {
  const search = new URLSearchParams({ ...asked(), by: 'model', and_by: 'member', top: '3' });
  const { body } = await service.get(`/api/reports/usage?${search}`, owner.key);
  expect(body.pairs.by).toEqual(['model', 'member']);
  expect(body.pairs.rows).toMatchObject([
    { model: null, kilo_user_id: owner.id, cost_microdollars: 30, requests: 1, input_tokens: 9 },
    { model: 'b', kilo_user_id: member.id, cost_microdollars: 20, requests: 1 },
    { model: 'a', kilo_user_id: member.id, cost_microdollars: 12, requests: 2 },
    { other: true, cost_microdollars: 3, requests: 1 },
  ]);
  expect(body.pairs.rows[0]).not.toHaveProperty('start');
  expect(body.total.cost_microdollars).toBe(65);
  const input = { ...asked(), by: ['model'], and_by: 'member', top: 3 };
  const { body: trpc } = await service.query('usage.report', input, owner.key);
  expect(trpc.result.data.pairs).toEqual(body.pairs);
  const { body: without } = await service.query(
    'usage.report',
    { ...input, and_by: null },
    owner.key,
  );
  expect(without.result.data).not.toHaveProperty('pairs');
});

it.each(['day', 'hour'] as const)('by %s: are of the snapshot of the rows', async (grain) => {
  const { pool } = service.database;
  const inSnapshot = snapshotOnPool(pool, false);
  const reports = new UsageReports(
    queryOnPool(pool, false),
    (work) =>
      inSnapshot((read) =>
        work(async (statement) => {
          const rows = await read<never>(statement);
          // After each of the statements of the report.
          await service.ledger.recordUsage({
            kilo_user_id: member.id,
            organization_id: organization,
            model: 'b',
            cost: 1_000,
            created_at: '2026-03-29T10:00:00Z',
          });
          return rows;
        }),
      ),
    createMetrics(),
  );
  const report = await reports.report({ ...asked(), grain, by: ['model'], and_by: 'member' });
  const sum = report.pairs?.rows.reduce((all, row) => all + Number(row.cost_microdollars), 0);
  expect(sum).toBe(report.total.cost_microdollars);
});

it.each([
  [{ by: ['model'], and_by: 'model' }, 'twice'],
  [{ by: [], and_by: 'model' }, 'one group in by'],
  [{ by: ['model', 'key'], and_by: 'provider' }, 'one group in by'],
  [{ by: ['model'], and_by: 'colour' }, 'model, provider, key, project, member'],
])('%o is refused', async (groups, allowed) => {
  const { body } = await service.query('usage.report', { ...RANGE, ...groups }, member.key);
  expect(body.error.data.details).toEqual({ field: 'and_by' });
  expect(body.error.message).toContain(allowed);
});

it('members that a report names are told by name, however many the organization has', async () => {
  await service.database.pool.query(
    `with added as (
       insert into kilocode_users (id, name) select '!' || n, 'Nobody' from generate_series(1, 1100) as n
       returning id
     )
     insert into organization_memberships (organization_id, kilo_user_id, role)
     select $1, a.id, 'member' from added as a`,
    [organization],
  );
  const namesIn = async (fields: object, key = owner.key) => {
    const { body } = await service.query('usage.report', { ...asked(), ...fields }, key);
    return body.result.data.member_names;
  };
  expect(await namesIn({ by: ['member'] })).toEqual({ [member.id]: 'Ada' });
  expect(await namesIn({ by: ['model'], and_by: 'member' })).toEqual({ [member.id]: 'Ada' });
  expect(await namesIn({ member: member.id }, member.key)).toEqual({ [member.id]: 'Ada' });
  expect(await namesIn({ by: ['model'] })).toBeUndefined();
});

it('by the server: of what is beyond the largest a period is told once, however many groups it has', async () => {
  const query = readReportQuery({ ...asked(), grain: 'month', by: ['model'], top: 1 });
  for (const source of ['days', 'raw'] as const) {
    const { text, values } = usageReportStatement(query, source, 'sums');
    const { rows } = await service.database.pool.query<ReportedRow>(text, values as unknown[]);
    const counted = rows.map((row) => [row.is_other, Number(row.counted)]);
    expect(counted.sort()).toEqual([
      [false, 1],
      [true, 2],
    ]);
  }
});

it('a prepared report answers as the schema, what is known of the days and the usage are at its time', async () => {
  const { pool, url } = service.database;
  const own = openPool({ connectionString: url, max: 1 });
  try {
    const query = queryInTurns(own, true);
    const reports = new UsageReports(query, snapshotOnPool(own, true), createMetrics());
    const ask = async () => {
      const { rows, total, source } = await reports.report({
        ...RANGE,
        kilo_user_id: owner.id,
        organization_ids: [organization],
        by: ['model'],
      });
      return { rows, total, mode: source.mode };
    };
    const before = await ask();
    expect(before.mode).toBe('rollup');
    await pool.query('alter table microdollar_usage_daily_by_dimension add column added text');
    await pool.query('alter table rollup_coverage add column added text');
    expect(await ask()).toEqual(before);
    await pool.query('alter table microdollar_usage_daily_by_dimension drop column added');
    await pool.query('alter table rollup_coverage drop column added');
    await pool.query('update ledger_settings set installed_empty = false');
    expect(await ask()).toEqual({ ...before, mode: 'raw' });
    await pool.query('update ledger_settings set installed_empty = true');
    await service.ledger.recordUsage({
      kilo_user_id: owner.id,
      organization_id: organization,
      model: 'new',
      cost: 11,
      created_at: '2026-03-29T10:00:00Z',
    });
    const after = await ask();
    expect(after.mode).toBe('rollup');
    expect(after.rows).toContainEqual(
      expect.objectContaining({ model: 'new', cost_microdollars: 11 }),
    );
  } finally {
    await own.end();
  }
});
