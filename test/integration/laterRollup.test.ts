import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { archivedDaysStatement } from '../../src/cli/exportArchive.sql.js';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import type { UsageReportQuery } from '../../src/ledgerTypes.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { buildDimensions } from '../../src/rollup/dimensions/build.js';
import { freezeDay, verifyDimensions } from '../../src/rollup/dimensions/prove.js';
import {
  DAILY_BY_USER,
  DIMENSION_ROLLUPS,
  QUARTER_HOURLY,
} from '../../src/schema/dimensionRollups.js';
import { createFilledFixture, daysAgo, FIRST, type FilledFixture, LAST } from './archiveHarness.js';

/** A rollup by dimension that a migration brings, to a ledger with history. */
let fixture: FilledFixture;
beforeEach(async () => {
  fixture = await createFilledFixture();
});
afterEach(() => fixture.close());

const foldAll = () =>
  new DimensionFolder({ query: queryOnPool(fixture.database.pool, false) }).foldAll();

const MIGRATION = path.join(import.meta.dirname, '../../drizzle/0013_report_entries.sql');
const START = readFileSync(MIGRATION, 'utf8')
  .split('--> statement-breakpoint')
  .find((statement) => statement.includes('INSERT INTO "rollup_starts"'));

/** As its migration leaves it. */
async function bring({ name } = DAILY_BY_USER): Promise<void> {
  await fixture.rows(`delete from ${name}`);
  for (const table of ['rollup_starts', 'rollup_marks', 'rollup_coverage']) {
    await fixture.rows(`delete from ${table} where rollup = $1`, [name]);
  }
  await fixture.rows((START ?? '').replaceAll(DAILY_BY_USER.name, name));
}

const RANGE = { from: FIRST, until: daysAgo(0) };

/** Reports that would come from it. */
async function reports(range: Pick<UsageReportQuery, 'from' | 'until'> = RANGE) {
  const told = [];
  for (const zone of ['UTC', 'Asia/Kathmandu']) {
    for (const kilo_user_id of ['ann', 'bob', 'cid', 'zero']) {
      const { rows, total } = await fixture.ledger.getUsageReport({ ...range, zone, kilo_user_id });
      told.push({ rows, total });
    }
    for (const by of [[], ['member']] as const) {
      const organization_id = fixture.organization;
      const { rows, total } = await fixture.ledger.getUsageReport({
        ...range,
        zone,
        organization_id,
        by,
      });
      told.push({ rows, total });
    }
  }
  return told;
}

describe('days that were archived before it came', () => {
  it('are reported from the others, also when it was folded and built', async () => {
    const before = await reports();
    await foldAll();
    await fixture.archive(LAST);
    expect(await reports()).toEqual(before);
    await bring();
    expect(await reports()).toEqual(before);
    await foldAll();
    expect(await reports()).toEqual(before);
    const { url } = fixture.database;
    await buildDimensions({ url, rollup: DAILY_BY_USER });
    expect(await reports()).toEqual(before);
  });

  it('are so also where all of the log is archived', async () => {
    const before = await reports();
    await foldAll();
    await fixture.archive(daysAgo(5));
    expect(await fixture.rawIds()).toEqual([]);
    await bring();
    expect(await reports()).toEqual(before);
    await foldAll();
    expect(await reports()).toEqual(before);
  });

  it.each(DIMENSION_ROLLUPS.filter((rollup) => rollup !== QUARTER_HOURLY))(
    'are missing from an export without their files, whether $name had them or not',
    async (rollup) => {
      await foldAll();
      await fixture.archive(LAST);
      const { text, values } = archivedDaysStatement({
        ...RANGE,
        kiloUserId: null,
        organizationId: null,
      });
      const before = await fixture.rows(text, values);
      expect(before).toHaveLength(4);
      await bring(rollup);
      expect(await fixture.rows(text, values)).toEqual(before);
    },
  );

  it('are so also where half of a day was, and an archive of now goes on', async () => {
    const before = await reports();
    await foldAll();
    const stop = new AbortController();
    await fixture.archive(LAST, {
      signal: stop.signal,
      limits: { rowsPerFile: 20, rowsPerTransaction: 3 },
      onStep: (step) => {
        if (step === 'moved') stop.abort();
      },
    });
    expect(await reports()).toEqual(before);
    await bring();
    const { url } = fixture.database;
    await buildDimensions({ url, rollup: DAILY_BY_USER });
    expect(await reports()).toEqual(before);
    await fixture.archive(LAST);
    expect(await reports()).toEqual(before);
  });

  it('are frozen by it too where nothing of them is gone yet', async () => {
    await foldAll();
    const database = openRollupDatabase(fixture.database.url, 1);
    try {
      await freezeDay(database, FIRST, [QUARTER_HOURLY]);
      await bring();
      await freezeDay(database, FIRST);
    } finally {
      await database.close();
    }
    const frozen = await fixture.rows<{ rollup: string }>(
      `select rollup from rollup_coverage where state = 'archived'`,
    );
    const names = DIMENSION_ROLLUPS.map(({ name }) => name);
    expect(frozen.map(({ rollup }) => rollup).sort()).toEqual(names.sort());
  });
});

it('days that were verified before its first fold lose nothing with it', async () => {
  const before = await reports();
  await bring();
  const { url } = fixture.database;
  await verifyDimensions({ url, rollup: DAILY_BY_USER });
  expect(await reports()).toEqual(before);
  await foldAll();
  expect(await reports()).toEqual(before);
  await buildDimensions({ url, rollup: DAILY_BY_USER });
  expect(await reports()).toEqual(before);
});

it.each(DIMENSION_ROLLUPS)('entries of $name follow from no setting', async ({ name }) => {
  await foldAll();
  const entries = () => fixture.rows(`select id, entry from ${name} order by id`);
  const before = await entries();
  expect(before).not.toHaveLength(0);
  const client = await fixture.database.pool.connect();
  try {
    await client.query(`set extra_float_digits = -15; set datestyle = german, dmy;
      set timezone = 'Asia/Kathmandu'; set intervalstyle = iso_8601`);
    await client.query(`update ${name} set requests = requests`);
  } finally {
    client.release(true);
  }
  expect(await entries()).toEqual(before);
});
