import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import { LedgerError } from '../../src/errors.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { setBackfillPaused } from '../../src/rollup/backfill.js';
import type { BackfillProgress } from '../../src/rollup/backfillTypes.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { buildDimensions } from '../../src/rollup/dimensions/build.js';
import { compareDay } from '../../src/rollup/dimensions/compareDay.js';
import { AT_ONCE, type Pace, SliceSize } from '../../src/rollup/dimensions/pace.js';
import {
  freezeDay,
  type ProveReport,
  proveDays,
  repairDimensions,
  verifyDimensions,
} from '../../src/rollup/dimensions/prove.js';
import { JobEnd } from '../../src/rollup/runWorkers.js';
import {
  DAILY_BY_DIMENSION,
  DIMENSION_ROLLUPS,
  QUARTER_HOURLY,
} from '../../src/schema/dimensionRollups.js';
import { type CounterDamage, counterDamage } from '../support/counterDamage.js';
import { once } from '../support/database.js';
import { findDifferences } from '../support/dimensionTruth.js';
import { writeRawHistory } from '../support/rawUsage.js';
import { openSessions, type Session } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

const TABLE = QUARTER_HOURLY.name;
const DAY = '2026-10-05';
let fixture: LedgerFixture;
let ledger: Ledger;
const opened: LedgerFixture[] = [];

const pool = () => fixture.database.pool;
const everything = () => ({ url: fixture.database.url, rollup: QUARTER_HOURLY });
const options = () => ({
  ...everything(),
  workers: 1,
  from: '2026-10-01',
  until: '2026-10-10',
});
const counters = () => findDifferences(pool(), QUARTER_HOURLY, 'counters');
const foldAll = () => new DimensionFolder({ query: queryOnPool(pool(), true) }).foldAll();

/** Each test begins with one of these two. */
async function openEmpty(): Promise<void> {
  fixture = await createLedgerFixture();
  opened.push(fixture);
  ledger = await fixture.open();
}
async function openFolded(): Promise<string> {
  const { template, user } = await foldedDatabase();
  fixture = await createLedgerFixture({ template });
  opened.push(fixture);
  return user;
}
afterEach(() => Promise.all(opened.splice(0).map((each) => each.close())));

/** With what `recordSome` records, folded; nothing is wrong with it. */
const foldedDatabase = once(async () => {
  fixture = await createLedgerFixture({ kept: true });
  ledger = await fixture.open();
  const user = await recordSome();
  await foldAll();
  for (const rollup of [QUARTER_HOURLY, DAILY_BY_DIMENSION]) {
    const report = await verifyDimensions({ ...options(), rollup });
    expect(report).toMatchObject({ driftKeys: 0, rows: 60 });
  }
  await fixture.close();
  return { template: fixture.database.name, user };
});

async function recordSome(): Promise<string> {
  const user = await fixture.addUser();
  const organization_id = await fixture.addOrganization();
  const events = Array.from({ length: 60 }, (_, index) => ({
    kilo_user_id: user,
    organization_id: index % 4 === 3 ? organization_id : null,
    cost: 100,
    model: `m${index % 2}`,
    created_at: new Date(Date.parse(`${DAY}T00:00:00Z`) + index * 20 * 60_000),
  }));
  await ledger.recordUsageBatch(events);
  return user;
}

/**
 * Two days of a payer whom somebody holds, and a third; `atEnd` of all three, before any is tried again.
 * `failingTurn` is a day's that meets what would meet every other day as well.
 */
async function proveHeldDays(
  atEnd: (other: Session) => Promise<unknown>,
  { signal, failingTurn }: { signal?: AbortSignal; failingTurn?: number } = {},
) {
  const user = await openFolded();
  await pool().query(
    `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
     select gen_random_uuid(), $1, 3, day
     from unnest(array['2026-10-03T01:00Z', '2026-10-04T02:00Z']::timestamptz[]) as day`,
    [user],
  );
  await using sessions = await openSessions(fixture.database.url, 1);
  const other = sessions.all[0] as Session;
  await other.run('begin');
  await other.run('select from rollup_marks where payer_id = $1 for update', [user]);
  const days = 3;
  let turns = 0;
  const pace: Pace = {
    ...AT_ONCE,
    turn: async (work) => {
      const turn = ++turns;
      const done = await work();
      if (turn === days) await atEnd(other);
      if (turn === failingTurn) throw new LedgerError('unavailable', 'a job that fails');
      return done;
    },
  };
  const database = openRollupDatabase(fixture.database.url, 2);
  const job = { database, end: new JobEnd(signal), pace };
  const begun: ProveReport[] = [];
  const onReport = (each: ProveReport) => begun.push(each);
  const failure = await proveDays({ ...options(), onReport, workers: 1 }, '', job)
    .then(
      () => null,
      (error: unknown) => error,
    )
    .finally(() => database.close());
  return { report: begun[0], failure, turns, days };
}

it('days whose payers somebody holds are tried again, alone, when the others are done', async () => {
  const { report, turns, days } = await proveHeldDays((other) => other.run('rollback'));
  expect(report).toMatchObject({ locked: 0, wrongDays: 2, changed: 2 });
  expect(report).toMatchObject({ found: { driftKeys: 2, failures: [] }, left: { driftKeys: 0 } });
  expect(turns).toBe(days + 2);
  expect(await counters()).toEqual([]);
});

it('days that were to be tried again are told as they are when the job is ended', async () => {
  const ending = new AbortController();
  const { report } = await proveHeldDays(async () => ending.abort(), {
    signal: ending.signal,
  });
  expect(report).toMatchObject({ locked: 2, wrongDays: 2, changed: 0 });
  expect(report).toMatchObject({ found: { driftKeys: 2 }, left: { driftKeys: 2 } });
});

it.each([
  ['of its days, a held one before it', 3, 1],
  ['that is tried again, another behind it', 4, 2],
])(
  'days that were to be tried again are told where the job fails at one %s',
  async (_, turn, told) => {
    const { report, failure } = await proveHeldDays(async () => {}, { failingTurn: turn });
    expect(failure).toMatchObject({ message: 'a job that fails' });
    expect(report).toMatchObject({ locked: told, wrongDays: told, changed: 0 });
    expect(report).toMatchObject({ found: { driftKeys: told }, left: { driftKeys: told } });
  },
);

describe('damage', () => {
  const planted: [string, string, { kinds: string[]; drift?: number }][] = [
    [
      'a sum was changed',
      `update ${TABLE} set cost_microdollars = 93 where id = $1`,
      { kinds: ['wrong'], drift: 7 },
    ],
    [
      'tokens were changed',
      `update ${TABLE} set cache_hit_tokens = 1 where id = $1`,
      { kinds: ['wrong'] },
    ],
    ['a row was deleted', `delete from ${TABLE} where id = $1`, { kinds: ['missing'], drift: 100 }],
    [
      'a row was planted',
      `insert into ${TABLE} select gen_random_uuid(), 'nobody', organization_id, period_start,
        provider, model, api_key_id, project_id, 50, 1, 0, 0, 0, 0, 0 from ${TABLE} where id = $1`,
      { kinds: ['orphan'], drift: 50 },
    ],
    [
      'a model was changed',
      `update ${TABLE} set model = 'other' where id = $1`,
      { kinds: ['wrong'] },
    ],
    [
      'an id was changed',
      `update ${TABLE} set id = gen_random_uuid() where id = $1`,
      { kinds: ['missing', 'orphan'], drift: 200 },
    ],
    [
      'a row was moved to another day',
      `update ${TABLE} set period_start = period_start - interval '2 days' where id = $1`,
      { kinds: ['missing', 'orphan'], drift: 200 },
    ],
    [
      'a raw row was deleted',
      `delete from microdollar_usage where id = (select m.id from microdollar_usage as m
        join ${TABLE} as c on c.id = $1 and c.kilo_user_id = m.kilo_user_id
        and m.organization_id is not distinct from c.organization_id and m.model = c.model
        and m.created_at >= c.period_start
        and m.created_at < c.period_start + interval '15 minutes')`,
      { kinds: ['orphan'], drift: 100 },
    ],
    [
      'a raw row came without a position',
      `insert into microdollar_usage (id, kilo_user_id, organization_id, model, cost, created_at)
        select gen_random_uuid(), kilo_user_id, organization_id, 'foreign', 11, period_start
        from ${TABLE} where id = $1`,
      { kinds: ['missing'], drift: 11 },
    ],
    [
      'a mark was lowered',
      `update rollup_marks set settled_below = 0 where payer_scope = 'user'
        and payer_id = (select kilo_user_id from ${TABLE} where id = $1)`,
      { kinds: ['orphan'] },
    ],
  ];
  it.each(planted)('%s: found, repaired, found no more', async (_, damage, { kinds, drift }) => {
    await openFolded();
    const [row] = await fixture.rows<{ id: string }>(
      `select id from ${TABLE} where organization_id is null and period_start::date = $1::date
       order by period_start offset 3 limit 1`,
      [DAY],
    );
    await fixture.rows(damage, [row?.id]);
    const found = await verifyDimensions(options());
    expect(new Set(found.drifts.map(({ kind }) => kind))).toEqual(new Set(kinds));
    if (drift !== undefined) expect(found.driftMicrodollars).toBe(BigInt(drift));
    const repaired = await repairDimensions(options());
    // The newest day first: a row that was moved comes back from the other.
    expect(repaired.found.driftKeys).toBeGreaterThan(0);
    expect(repaired.left?.driftKeys).toBe(0);
    expect((await verifyDimensions(options())).driftKeys).toBe(0);
    await foldAll();
    expect(await counters()).toEqual([]);
    expect(await fixture.rows('select from rollup_repairs')).not.toHaveLength(0);
  });

  it('a mark that was raised is found once its row should be counted', async () => {
    await openEmpty();
    const user = await recordSome();
    await fixture.rows(`insert into rollup_marks values ($1, 'user', $2, $3, '{}')`, [
      TABLE,
      user,
      String(2n ** 62n),
    ]);
    const found = await verifyDimensions(options());
    expect(found.drifts.every(({ kind }) => kind === 'missing')).toBe(true);
    expect(found.driftKeys).toBe(45);
    await repairDimensions(options());
    expect((await verifyDimensions(options())).driftKeys).toBe(0);
  });
});

describe('damage of the daily rollup', () => {
  const { name } = DAILY_BY_DIMENSION;
  const daily = () => ({ ...options(), rollup: DAILY_BY_DIMENSION });
  const planted: CounterDamage[] = [
    ...counterDamage(name),
    ['requests were changed', `update ${name} set requests = 1 where id = $1`, ['wrong']],
    ['a model was changed', `update ${name} set model = 'other' where id = $1`, ['wrong']],
    [
      'a raw row was deleted',
      `delete from microdollar_usage where id = (select m.id from microdollar_usage as m
        join ${name} as c on c.id = $1 and c.kilo_user_id = m.kilo_user_id
        and m.organization_id is null and m.model = c.model limit 1)`,
      ['wrong'],
    ],
  ];
  it.each(planted)('%s: found, repaired, found no more', async (_, damage, kinds) => {
    await openFolded();
    const [row] = await fixture.rows<{ id: string }>(
      `select id from ${name} where organization_id is null order by model offset 1 limit 1`,
    );
    await fixture.rows(damage, [row?.id]);
    const found = await verifyDimensions(daily());
    expect(new Set(found.drifts.map(({ kind }) => kind))).toEqual(new Set(kinds));
    expect((await repairDimensions(daily())).left?.driftKeys).toBe(0);
    expect((await verifyDimensions(daily())).driftKeys).toBe(0);
    await foldAll();
    expect(await findDifferences(pool(), DAILY_BY_DIMENSION, 'counters')).toEqual([]);
  });
});

it('is clean beside writers and folds', async () => {
  await openEmpty();
  const user = await recordSome();
  let running = true;
  const writing = (async () => {
    while (running) {
      await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          ledger.recordUsage({ kilo_user_id: user, cost: index, created_at: `${DAY}T01:00:00Z` }),
        ),
      );
      await foldAll();
    }
  })();
  for (let round = 0; round < 5; round++) {
    expect((await verifyDimensions(options())).driftKeys).toBe(0);
    expect((await repairDimensions(options())).changed).toBe(0);
  }
  running = false;
  await writing;
});

it('history that was there before is built beside writers, and then all is exact', async () => {
  await openEmpty();
  await fixture.rows('delete from rollup_starts');
  await writeRawHistory(pool(), { rows: 3_000, days: 5, users: 20 });
  const writing = Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      ledger.recordUsage({ kilo_user_id: `user-${1 + (index % 20)}`, cost: index, model: 'new' }),
    ),
  );
  const built = await buildDimensions(everything());
  await writing;
  expect(built.left?.driftKeys).toBe(0);
  expect(await findDifferences(pool(), QUARTER_HOURLY, 'reported')).toEqual([]);
  await foldAll();
  expect(await counters()).toEqual([]);
  expect((await buildDimensions(everything())).changed).toBe(0);
});

it('a rolling deploy ends exact: what old processes wrote is built when the last has ended', async () => {
  await openEmpty();
  const user = await fixture.addUser();
  const model = (index: number) => `m${index % 3}`;
  let running = true;
  const old = (async () => {
    for (let index = 0; running; index++) {
      await fixture.rows(
        `insert into microdollar_usage (id, kilo_user_id, cost, model, created_at)
         values (gen_random_uuid(), $1, 7, $2, $3)`,
        [user, model(index), `${DAY}T12:00:00Z`],
      );
      await sleep(2);
    }
  })();
  for (let index = 0; index < 60; index++) {
    const created_at = `${DAY}T12:${String(index).padStart(2, '0')}:00Z`;
    await ledger.recordUsage({ kilo_user_id: user, cost: index, model: model(index), created_at });
    if (index % 20 === 10) await foldAll();
    if (index === 30) {
      for (const rollup of DIMENSION_ROLLUPS) await buildDimensions({ ...everything(), rollup });
    }
  }
  running = false;
  await old;
  for (const rollup of DIMENSION_ROLLUPS) {
    const built = await buildDimensions({ ...everything(), rollup });
    expect(built.left?.driftKeys ?? 0).toBe(0);
    expect(await findDifferences(pool(), rollup, 'reported')).toEqual([]);
    expect((await verifyDimensions({ ...everything(), rollup })).driftKeys).toBe(0);
  }
  await foldAll();
  for (const rollup of DIMENSION_ROLLUPS) {
    expect(await findDifferences(pool(), rollup, 'counters')).toEqual([]);
  }
});

describe('a build', () => {
  it('tells its progress, and stands still while it is paused', async () => {
    await openEmpty();
    await fixture.rows('delete from rollup_starts');
    await writeRawHistory(pool(), { rows: 300, days: 3, users: 5 });
    const database = openRollupDatabase(fixture.database.url, 1);
    try {
      await setBackfillPaused(database, DAILY_BY_DIMENSION, true);
      const told: BackfillProgress[] = [];
      const notices: string[] = [];
      const building = buildDimensions({
        ...everything(),
        rollup: DAILY_BY_DIMENSION,
        workers: 1,
        onProgress: (progress) => told.push(progress),
        onNotice: (notice) => notices.push(notice),
      });
      await expect.poll(() => told.some(({ isPaused }) => isPaused)).toBe(true);
      expect(await fixture.rows(`select from ${DAILY_BY_DIMENSION.name}`)).toEqual([]);
      await setBackfillPaused(database, DAILY_BY_DIMENSION, false);
      const report = await building;
      expect(report.changed).toBeGreaterThan(0);
      expect(notices).toEqual([expect.stringContaining('paused')]);
      const days = told.filter(({ isPaused }) => !isPaused);
      // Those without usage are told together.
      const [{ periodsDone: empty = 0 } = {}] = days;
      const total = empty + days.length - 1;
      expect(days.map(({ periodsDone }) => periodsDone)).toEqual(
        days.map((_, index) => empty + index),
      );
      expect(days.at(-1)).toMatchObject({ periodsTotal: total, rowsDone: 300, etaSeconds: 0 });
      expect(await findDifferences(pool(), DAILY_BY_DIMENSION, 'counters')).toEqual([]);
    } finally {
      await database.close();
    }
  });

  it('compares in smaller parts where a part took too long', () => {
    const slice = new SliceSize();
    const sizes = [800, 3_000, 3_000, 100, 20, 20].map((durationMs) => {
      slice.observe(slice.minutes, durationMs);
      return slice.minutes;
    });
    expect(sizes).toEqual([1_440, 360, 60, 360, 1_440, 1_440]);
  });
});

it('a large day is compared in parts, each on its own', async () => {
  await openFolded();
  const database = openRollupDatabase(fixture.database.url, 1);
  try {
    let cut = 0;
    const slow: typeof database.transaction = (run, settings) =>
      cut++ < 5
        ? Promise.reject(Object.assign(new Error('canceling statement'), { code: '57014' }))
        : database.transaction(run, settings);
    const compared = await compareDay({ transaction: slow }, QUARTER_HOURLY, DAY);
    expect(compared).toMatchObject({ rawRows: 60, wrong: 0 });
    expect(cut).toBeGreaterThan(5);
  } finally {
    await database.close();
  }
});

it('a day whose raw rows are archived stays as it was proven', async () => {
  await openEmpty();
  await recordSome();
  const database = openRollupDatabase(fixture.database.url, 1);
  try {
    await fixture.rows(`update ledger_settings set archive_horizon = $1::date + 1`, [DAY]);
    await foldAll();
    await freezeDay(database, DAY, [QUARTER_HOURLY]);
    await fixture.rows('delete from microdollar_usage');
    const before = await fixture.rows(`select * from ${TABLE} order by id`);
    expect(before).not.toHaveLength(0);
    expect((await repairDimensions(options())).changed).toBe(0);
    expect(await fixture.rows(`select * from ${TABLE} order by id`)).toEqual(before);
  } finally {
    await database.close();
  }
});
