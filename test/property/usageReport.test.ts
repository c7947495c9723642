import fc from 'fast-check';
import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { REPORT_SETTINGS } from '../../src/db/pool.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger, UsageReport, UsageReportQuery } from '../../src/ledgerTypes.js';
import { periodsOf } from '../../src/report/usage/periods.js';
import { readReportQuery, TOP_METRICS } from '../../src/report/usage/query.js';
import { isSeries, toRows } from '../../src/report/usage/reportRows.js';
import { sourcesOf } from '../../src/report/usage/sources.sql.js';
import { type ReportedRow, usageReportStatement } from '../../src/report/usage/usageReport.sql.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { freezeDay } from '../../src/rollup/dimensions/prove.js';
import {
  DAILY_BY_DIMENSION,
  DAILY_BY_USER,
  type DimensionRollup,
  METRIC_NAMES,
  METRICS,
  QUARTER_HOURLY,
} from '../../src/schema/dimensionRollups.js';
import { insertMicrodollarUsageWithDailyRollup } from '../../src/testing/insertUsage.js';
import { createLedgerFixture, type LedgerFixture } from '../integration/ledgerHarness.js';
import { inForm } from '../support/form.js';
import { openPool } from '../support/openPool.js';

/** Sums by every grain, zone and pair of groups are those of the raw rows, however much is folded. */
const RUNS = inForm(5, 25);
const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/St_Johns',
  'Asia/Kathmandu',
  'Australia/Lord_Howe',
  'America/Santiago',
  'Pacific/Apia',
  // Midnight comes twice.
  'Atlantic/Azores',
  'America/Havana',
  'Asia/Beirut',
];
const GRAINS = ['hour', 'day', 'week', 'month'] as const;
const COLUMNS = {
  model: 'model',
  provider: 'provider',
  key: 'api_key_id::text',
  project: 'project_id',
  member: 'kilo_user_id',
} as const;

let fixture: LedgerFixture;
let ledger: Ledger;
/** Plans each statement once, as the connections that a ledger has for reports. */
let reports: pg.Pool;
beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  reports = openPool({
    connectionString: fixture.database.url,
    max: 1,
    options: REPORT_SETTINGS.map((setting) => `-c ${setting}`).join(' '),
  });
});
afterAll(async () => {
  await reports?.end();
  await fixture?.close();
});

const text = fc.constantFrom(null, '', 'a', 'b"', 'ü');
const key = fc.constantFrom(
  null,
  '00000000-0000-4000-8000-000000000001',
  '00000000-0000-4000-8000-000000000002',
);
/** Around changes of clocks, of days and of months, in one zone or another. */
const instant = fc
  .tuple(
    fc.constantFrom(
      '2026-03-29T01:00:00Z',
      '2026-10-25T01:00:00Z',
      '2026-04-04T15:00:00Z',
      '2026-11-01T05:00:00Z',
    ),
    fc.integer({ min: -40 * 60, max: 40 * 60 }),
    fc.integer({ min: 0, max: 59_999 }),
  )
  .map(([at, minutes, ms]) => new Date(Date.parse(at) + minutes * 60_000 + ms).toISOString());
const event = fc.record({
  isOwn: fc.boolean(),
  member: fc.constantFrom(0, 1),
  cost: fc.integer({ min: -1_000, max: 10 ** 12 }),
  input_tokens: fc.integer({ min: 0, max: 2 ** 53 - 1 }),
  output_tokens: fc.integer({ min: 0, max: 9 }),
  cache_hit_tokens: fc.integer({ min: 0, max: 9 }),
  cache_write_tokens: fc.integer({ min: 0, max: 9 }),
  has_error: fc.boolean(),
  model: text,
  provider: text,
  project_id: text,
  api_key_id: key,
  created_at: instant,
  way: fc.constantFrom('record', 'record', 'free', 'twice', 'inserted', 'unpositioned'),
});
const query = fc.record({
  zone: fc.constantFrom(...ZONES),
  grain: fc.constantFrom(...GRAINS),
  by: fc.uniqueArray(fc.constantFrom('model', 'provider', 'key', 'project', 'member'), {
    maxLength: 2,
  }) as fc.Arbitrary<(keyof typeof COLUMNS)[]>,
  isOrganization: fc.boolean(),
  isOfMember: fc.boolean(),
  apiKey: key,
  from: fc.constantFrom('2026-03-01', '2026-03-29', '2026-10-24', '2026-11-01'),
  days: fc.integer({ min: 1, max: 35 }),
  compare: fc.boolean(),
  top: fc.integer({ min: 1, max: 3 }),
  metric: fc.constantFrom(...TOP_METRICS),
});

it('equals the raw sums', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { minLength: 1, maxLength: 25 }),
      fc.array(query, { minLength: 3, maxLength: 6 }),
      fc.record({ isFolded: fc.boolean(), isArchived: fc.boolean(), isDailyNew: fc.boolean() }),
      async (events, queries, { isFolded, isArchived, isDailyNew }) => {
        if (isDailyNew) await startAnew('now()', AFTER_ALL);
        const members = [await fixture.addUser(), await fixture.addUser()];
        const organization = await fixture.addOrganization();
        await writeAll(events, members, organization);
        if (isFolded) await folder().foldAll();
        await fixture.rows('create table kept_usage as table microdollar_usage');
        if (isArchived) await archive();
        for (const each of queries) {
          const isOrganization = each.isOrganization || each.by.includes('member');
          const asked: UsageReportQuery = {
            ...(isOrganization
              ? { organization_id: organization }
              : { kilo_user_id: members[0] as string }),
            ...(isOrganization && each.isOfMember ? { member: members[1] as string } : {}),
            api_key_id: each.apiKey,
            from: each.from,
            until: addDays(each.from, each.days - 1),
            zone: each.zone,
            grain: each.grain,
            by: each.by,
            top: 25,
            compare: each.compare,
          };
          const report = await ledger.getUsageReport(asked);
          const hasForeign = events.some(({ way }) => way === 'unpositioned');
          if (report.rows.length > 0 && !isArchived) {
            expect(report.source.mode).toBe(hasForeign ? 'raw' : 'rollup');
          }
          expect(comparable(report)).toEqual(await truth(asked, each.compare ? each.days : null));
          for (const lines of await linesOfEach(asked)) expect(lines).toEqual(comparable(report));
          // And of the same groups told apart, the same beyond them.
          const few = { ...asked, top: each.top, metric: each.metric };
          const [first, ...others] = await linesOfEach(few);
          for (const lines of others) expect(lines).toEqual(first);
        }
        await fixture.rows('drop table kept_usage');
        await fixture.rows(
          'update ledger_settings set installed_empty = true, archive_horizon = null',
        );
        await fixture.rows('delete from rollup_coverage');
        await fixture.rows('delete from microdollar_usage where position is null');
        if (isDailyNew) await startAnew("'-infinity'", '0');
      },
    ),
    { numRuns: RUNS },
  );
});

/** Of the log as it is; an open transaction does not matter here. */
const AFTER_ALL = `(select coalesce(max(abs(position)), 0) + 1 from microdollar_usage)`;

/** The daily rollups as a migration leaves them in a database with history, or in an empty one. */
async function startAnew(startedAt: string, position: string): Promise<void> {
  for (const { name } of [DAILY_BY_DIMENSION, DAILY_BY_USER]) {
    await fixture.rows('delete from rollup_starts where rollup = $1', [name]);
    await fixture.rows('delete from rollup_marks where rollup = $1', [name]);
    await fixture.rows(`delete from ${name}`);
    await fixture.rows(
      `insert into rollup_starts (rollup, started_at, position)
       values ($1, ${startedAt}, ${position})`,
      [name],
    );
  }
}

const HORIZON = '2026-04-05';

/** Days before the horizon: proven, frozen, and their raw rows deleted. */
async function archive(): Promise<void> {
  await fixture.rows('update ledger_settings set archive_horizon = $1::date::timestamptz', [
    HORIZON,
  ]);
  await folder().foldAll();
  const database = openRollupDatabase(fixture.database.url, 1);
  try {
    const days = await fixture.rows<{ day: string }>(
      `select distinct (created_at at time zone 'UTC')::date::text as day from microdollar_usage
       where created_at < $1::date::timestamptz`,
      [HORIZON],
    );
    for (const { day } of days) await freezeDay(database, day);
  } finally {
    await database.close();
  }
  await fixture.rows('delete from microdollar_usage where created_at < $1::date::timestamptz', [
    HORIZON,
  ]);
}

type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

async function writeAll(events: readonly Event[], members: string[], organization: string) {
  for (const { way, isOwn, member, ...fields } of events) {
    const usage = {
      ...fields,
      kilo_user_id: members[member] as string,
      organization_id: isOwn ? null : organization,
      ...(way === 'free' ? { cost: 0 } : {}),
    };
    if (way === 'inserted')
      await insertMicrodollarUsageWithDailyRollup(fixture.database.pool, [usage]);
    else if (way === 'unpositioned') await insertForeign(usage);
    else {
      const { id } = await ledger.recordUsage(usage);
      if (way === 'twice') await ledger.recordUsage({ ...usage, id });
    }
    if (fields.cost % 5 === 0) await folder().foldAll();
    // The marks of the rollups differ: each has its own tail.
    if (fields.cost % 5 === 1) await folder([QUARTER_HOURLY]).foldAll();
    if (fields.cost % 5 === 2) await folder([DAILY_BY_DIMENSION]).foldAll();
    if (fields.cost % 5 === 3) await folder([DAILY_BY_USER]).foldAll();
  }
}

/** As a program that knows no position; then nothing is proven by construction. */
async function insertForeign(usage: object): Promise<void> {
  const columns = Object.keys(usage);
  await fixture.rows(
    `insert into microdollar_usage (id, ${columns.join(', ')})
     values (gen_random_uuid(), ${columns.map((_, index) => `$${index + 1}`).join(', ')})`,
    Object.values(usage),
  );
  await fixture.rows('update ledger_settings set installed_empty = false');
}

const folder = (rollups?: readonly DimensionRollup[]) =>
  new DimensionFolder({
    ...(rollups ? { rollups } : {}),
    query: queryOnPool(fixture.database.pool, true),
  });

/** Straight from the raw rows, by the zone's own periods; and of so many days before, where compared. */
async function truth(asked: UsageReportQuery, daysBefore: number | null) {
  const range = await sumsOf(asked, 0);
  if (daysBefore === null) return range;
  const before = addDays(asked.from, -daysBefore);
  const previous = await sumsOf(
    { ...asked, from: before, until: addDays(asked.from, -1), by: [] },
    daysBefore,
  );
  return { ...range, previous };
}

/** Each row in the period that it would be in so many days later, at the same local time. */
async function sumsOf(asked: UsageReportQuery, daysLater: number) {
  const groups = (asked.by ?? []).map((group) => COLUMNS[group]);
  const at = `date_trunc($4, case when $9::integer = 0 then m.created_at else
      ((m.created_at at time zone $3) + $9::integer * interval '1 day') at time zone $3 end, $3)`;
  const rows = await fixture.rows<Record<string, string>>(
    `select (${at} at time zone $3)::text as start,
       ${groups.map((group, index) => `${group} as group_${index}, `).join('')}
       ${METRICS.map(({ name, of }) => `sum(${of})::text as ${name}`).join(', ')}
     from kept_usage as m
     where (case when $5::uuid is null then m.kilo_user_id = $6 and m.organization_id is null
         else m.organization_id = $5::uuid end)
       and ($7::text is null or m.kilo_user_id = $7)
       and ($8::uuid is null or m.api_key_id = $8)
       and (m.created_at at time zone $3)::date between $1::date and $2::date
     group by ${at} ${groups.map((_, index) => `, ${index + 2}`).join('')}`,
    [
      asked.from,
      asked.until,
      asked.zone,
      asked.grain,
      asked.organization_id ?? null,
      asked.kilo_user_id ?? null,
      asked.member ?? null,
      asked.api_key_id ?? null,
      daysLater,
    ],
  );
  const lines = rows.map((row) =>
    JSON.stringify([
      row.start?.slice(0, asked.grain === 'hour' ? 19 : 10).replace(' ', 'T'),
      groups.map((_, index) => row[`group_${index}`]),
      METRIC_NAMES.map((name) => row[name]),
    ]),
  );
  const total = METRIC_NAMES.map((name) =>
    String(rows.reduce((sum, row) => sum + BigInt(row[name] ?? 0), 0n)),
  );
  return { lines: lines.sort(), total };
}

const GROUP_COLUMNS = {
  model: 'model',
  provider: 'provider',
  key: 'api_key_id',
  project: 'project_id',
  member: 'kilo_user_id',
} as const;

function comparable({ previous, ...report }: UsageReport) {
  const range = linesOf(report);
  return previous ? { ...range, previous: linesOf({ ...previous, by: [] }) } : range;
}

function linesOf({ rows, by, total }: Pick<UsageReport, 'rows' | 'by' | 'total'>) {
  const lines = rows.map((row) =>
    JSON.stringify([
      row.start.slice(0, 19),
      row.other ? 'other' : by.map((group) => row[GROUP_COLUMNS[group]]),
      METRIC_NAMES.map((name) => String(row[name])),
    ]),
  );
  return { lines: lines.sort(), total: METRIC_NAMES.map((name) => String(total[name])) };
}

/** The same as the server sums it, or the client, from each source that answers. */
async function linesOfEach(asked: UsageReportQuery) {
  const query = readReportQuery(asked);
  const each: ReturnType<typeof comparable>[] = [];
  for (const form of ['sums', 'rows'] as const) {
    for (const source of sourcesOf(query)) {
      const rows = await queryOnPool(
        reports,
        true,
      )<ReportedRow>(usageReportStatement(query, source, form));
      if (!rows[0]?.is_proven) continue;
      const linesOfRange = (isPrevious: boolean, by: typeof query.by) => {
        const series = rows.filter(isSeries).filter((row) => row.is_previous === isPrevious);
        const periodOf = periodsOf(query, { source, form, rows }, isPrevious);
        return linesOf({ ...toRows(query, series, periodOf), by });
      };
      const range = linesOfRange(false, query.by);
      each.push(query.compare ? { ...range, previous: linesOfRange(true, []) } : range);
    }
  }
  return each;
}

function addDays(day: string, days: number): string {
  return new Date(Date.parse(day) + days * 86_400_000).toISOString().slice(0, 10);
}
