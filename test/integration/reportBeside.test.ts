import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adjustUsage } from '../../src/accounts/adjust.js';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { CONNECTION_USES } from '../../src/connections.js';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Form } from '../../src/report/usage/groups.sql.js';
import { periodsOf } from '../../src/report/usage/periods.js';
import { type Grain, type Group, readReportQuery } from '../../src/report/usage/query.js';
import { isSeries, toRows, type UsageReportRow } from '../../src/report/usage/reportRows.js';
import { type ReportSource, sourcesOf } from '../../src/report/usage/sources.sql.js';
import { type ReportedRow, usageReportStatement } from '../../src/report/usage/usageReport.sql.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { rebuildSlice } from '../../src/rollup/dimensions/rebuildSlice.js';
import { setReadMode } from '../../src/rollup/readMode.js';
import {
  DAILY_BY_DIMENSION,
  DAILY_BY_USER,
  DIMENSION_ROLLUPS,
  type DimensionRollup,
  QUARTER_HOURLY,
} from '../../src/schema/dimensionRollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { inForm } from '../support/form.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import { type ArchiveFixture, createArchiveFixture, daysAgo } from './archiveHarness.js';

/**
 * A report whose snapshot was taken before others commit a fold, a repair, an archive, ... says what raw
 * usage was then, from each of its sources that answers; one after it what it is now; and any of the
 * reports that run meanwhile one of the two.
 */
let fixture: ArchiveFixture;
let sessions: Sessions;
let reader: Session;
const DAY = daysAgo(12);

beforeAll(async () => {
  fixture = await createArchiveFixture();
  sessions = await openSessions(fixture.database.url, 1);
  [reader] = sessions.all as [Session];
  for (const setting of CONNECTION_USES.report.settings) {
    const [name, value] = setting.split('=');
    await reader.run('select set_config($1, $2, false)', [name, value]);
  }
});
afterAll(async () => {
  await sessions?.close();
  await fixture?.close();
});

interface Payer {
  user: string;
  organization: string | null;
  /** Requests in the order of time. */
  ids: string[];
}

/** Around midnight, of two models and two keys, one without a price yet; some of it folded. */
async function addUsage(kind: 'user' | 'organization'): Promise<Payer> {
  const user = await fixture.addUser();
  const organization = kind === 'user' ? null : await fixture.addOrganization();
  const results = [];
  for (const part of [0, 1]) {
    results.push(
      ...(await fixture.ledger.recordUsageBatch(
        Array.from({ length: 6 }, (_, index) => ({
          kilo_user_id: user,
          organization_id: organization,
          cost: (index % 4) * 10 ** index,
          input_tokens: index,
          model: index % 2 === 0 ? 'a' : null,
          api_key_id: `00000000-0000-4000-8000-00000000000${index % 3}`,
          created_at: `${DAY}T${['00:05', '04:20', '11:59', '18:31', '22:10', '23:59'][index]}:0${part}Z`,
        })),
      )),
    );
    if (part === 0) await fold();
  }
  return { user, organization, ids: results.map(({ id }) => id ?? '') };
}

const fold = (rollups: readonly DimensionRollup[] = DIMENSION_ROLLUPS) =>
  new DimensionFolder({
    rollups,
    query: queryOnPool(fixture.database.pool, true),
  }).foldAll();

interface Shape {
  by?: Group[];
  zone?: string;
  grain?: Grain;
}

const SHAPES: readonly Shape[] = [
  {},
  { by: ['model'] },
  { by: ['model', 'key'], zone: 'Europe/Berlin' },
  { by: ['model'], zone: 'Asia/Kolkata', grain: 'hour' },
];

function queryOf({ user, organization }: Payer, shape: Shape) {
  return {
    ...(organization === null ? { kilo_user_id: user } : { organization_id: organization }),
    from: daysAgo(13),
    until: daysAgo(-1),
    ...shape,
  };
}

type Line = [start: string, model: string | null, key: string | null, cost: string, rows: string];

/** What raw usage is in the reader's snapshot. */
async function truth({ user, organization }: Payer, shape: Shape) {
  const { by = [], zone = 'UTC', grain = 'day' } = shape;
  const rows = await reader.run<{ line: Line }>(
    `select json_build_array(to_char(date_trunc($3, created_at, $4) at time zone $4,
         'YYYY-MM-DD"T"HH24'), case when $5 then model end, case when $6 then api_key_id end,
         sum(cost)::text, count(*)::text) as line
     from microdollar_usage
     where case when $2::uuid is null then kilo_user_id = $1 else organization_id = $2 end
     group by date_trunc($3, created_at, $4), case when $5 then model end,
       case when $6 then api_key_id end`,
    [user, organization, grain, zone, by.includes('model'), by.includes('key')],
  );
  return inOrder(rows.map(({ line }) => line));
}

const toLines = (rows: readonly UsageReportRow[]) =>
  inOrder(
    rows.map(
      (row): Line => [
        row.start.length === 10 ? `${row.start}T00` : row.start.slice(0, 13),
        row.model ?? null,
        row.api_key_id ?? null,
        String(row.cost_microdollars),
        String(row.requests),
      ],
    ),
  );

const inOrder = (lines: Line[]) => lines.map((line) => JSON.stringify(line)).sort();

/** From one source in the reader's snapshot, in both forms; null where it does not answer. */
async function read(payer: Payer, shape: Shape, source: ReportSource) {
  const query = readReportQuery(queryOf(payer, shape));
  const readAs = async (form: Form) => {
    // With its name, as a ledger's connections ask: planned once.
    const { name, text, values } = usageReportStatement(query, source, form);
    const { rows } = await reader.client.query<ReportedRow>({ name, text, values });
    const periodOf = periodsOf(query, { source, form, rows }, false);
    return rows[0]?.is_proven ? toLines(toRows(query, rows.filter(isSeries), periodOf).rows) : null;
  };
  const summed = await readAs('sums');
  expect(await readAs('rows')).toEqual(summed);
  return summed;
}

const reported = async (payer: Payer, shape: Shape) =>
  toLines((await fixture.ledger.getUsageReport(queryOf(payer, shape))).rows);

async function rebuild({ user, organization }: Payer): Promise<void> {
  const database = openRollupDatabase(fixture.database.url, 1);
  const wrong = {
    slice: { day: DAY, offset: 0, minutes: 1_440 },
    users: organization === null ? [user] : [],
    organizations: organization === null ? [] : [organization],
  };
  try {
    for (const rollup of DIMENSION_ROLLUPS) await rebuildSlice(database, rollup, wrong, 'test');
  } finally {
    await database.close();
  }
}

async function moveReadMode(): Promise<void> {
  const database = openRollupDatabase(fixture.database.url, 1);
  try {
    for (const mode of ['shadow', 'raw'] as const) await setReadMode(database, mode);
  } finally {
    await database.close();
  }
}

const MEANWHILE: [name: string, step: (payer: Payer) => Promise<unknown>][] = [
  ['a fold', () => fold()],
  ['a fold of the quarters alone', () => fold([QUARTER_HOURLY])],
  ['a fold of the days alone', () => fold([DAILY_BY_DIMENSION])],
  ["a fold of the users' days alone", () => fold([DAILY_BY_USER])],
  ['a repair, and a fold after it', async (payer) => [await rebuild(payer), await fold()]],
  [
    'a refund and its fold',
    async ({ ids }) => [await adjustUsage(fixture.ledger, ids[3] ?? '', '-0.000001'), await fold()],
  ],
  [
    'late usage of the day',
    ({ user, organization }) =>
      fixture.record([
        {
          kilo_user_id: user,
          organization_id: organization,
          cost: 9,
          model: 'renamed',
          created_at: `${DAY}T12:00:00Z`,
        },
      ]),
  ],
  ['a soft delete', ({ user }) => softDeleteUser(fixture.database.pool, user)],
  ['another read mode', moveReadMode],
];

/** Reports of the payer one after the other until it ends; by shape. */
function watchReports(payer: Payer): { end(): Promise<string[][][]> } {
  const seen: string[][][] = SHAPES.map(() => []);
  let isDone = false;
  const watched = (async () => {
    do {
      for (const [index, shape] of SHAPES.entries()) {
        seen[index]?.push(await reported(payer, shape));
      }
      await sleep(inForm(40, 0));
    } while (!isDone);
  })();
  return {
    end: async () => {
      isDone = true;
      await watched;
      return seen;
    },
  };
}

async function besideEach(payer: Payer, step: (payer: Payer) => Promise<unknown>): Promise<void> {
  const before = await Promise.all(SHAPES.map((shape) => truth(payer, shape)));
  await reader.run('begin isolation level repeatable read');
  await reader.run('select from ledger_settings');
  const watch = watchReports(payer);
  try {
    await step(payer);
    for (const [index, shape] of SHAPES.entries()) {
      expect(await truth(payer, shape)).toEqual(before[index]);
      for (const source of sourcesOf(readReportQuery(queryOf(payer, shape)))) {
        expect([before[index], null]).toContainEqual(await read(payer, shape, source));
      }
      expect(await read(payer, shape, 'raw')).toEqual(before[index]);
    }
  } finally {
    await reader.run('rollback');
  }
  const seen = await watch.end();
  for (const [index, shape] of SHAPES.entries()) {
    const now = await truth(payer, shape);
    expect(await reported(payer, shape)).toEqual(now);
    for (const each of seen[index] ?? []) expect([before[index], now]).toContainEqual(each);
    expect(seen[index]?.length).toBeGreaterThan(0);
  }
}

describe.each(['user', 'organization'] as const)('reports of a %s', (kind) => {
  it.each(MEANWHILE)('beside %s', async (_, step) => {
    await besideEach(await addUsage(kind), step);
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
  });
});

it('reports beside an archive of their days are what they were', async () => {
  const payers = [await addUsage('organization'), await addUsage('user')];
  await fixture.prove();
  const before = await Promise.all(
    payers.map((payer) => Promise.all(SHAPES.map((shape) => truth(payer, shape)))),
  );
  const watches = payers.map(watchReports);
  await fixture.archive(DAY);
  const left = await fixture.rawIds();
  expect(payers.flatMap(({ ids }) => ids).filter((id) => left.includes(id))).toEqual([]);
  for (const [of, payer] of payers.entries()) {
    const seen = (await watches[of]?.end()) ?? [];
    for (const [index, shape] of SHAPES.entries()) {
      const sums = before[of]?.[index];
      expect(await reported(payer, shape)).toEqual(sums);
      for (const each of seen[index] ?? []) expect(each).toEqual(sums);
    }
  }
  expect(await checkInvariants(fixture.database.pool)).toEqual([]);
});
