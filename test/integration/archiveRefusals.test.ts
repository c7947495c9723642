import { randomUUID } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type ArchiveFileSystem,
  nodeArchiveFileSystem,
} from '../../src/rollup/archive/fileSystem.js';
import { planArchive } from '../../src/rollup/archive/plan.js';
import { archiveInTime } from '../support/archiveInTime.js';
import { checkInvariants } from '../support/checkInvariants.js';
import {
  type ArchiveFixture,
  createArchiveFixture,
  createSmallFixture,
  daysAgo,
} from './archiveHarness.js';
import { runCommand } from './cliHarness.js';
import { ledgerErrorOf } from './ledgerHarness.js';

const FIRST = daysAgo(6);
const LAST = daysAgo(5);
const ROWS = 60;
/** For what cannot be settled; connections that just begin, on a busy machine, are done by then. */
const WAIT_MS = 2_000;

let fixture: ArchiveFixture;

beforeEach(async () => {
  fixture = await createSmallFixture();
});

afterEach(() => fixture.close());

/** Nothing deleted, nothing changed, and the horizon is still down. */
async function expectUntouched(): Promise<void> {
  expect(await fixture.rawIds()).toHaveLength(ROWS);
  expect(await fixture.rows('select archive_horizon from ledger_settings')).toEqual([
    { archive_horizon: null },
  ]);
}

const refusalOf = (until = LAST) => ledgerErrorOf(fixture.archive(until));

describe('an archive is refused', () => {
  it('for today, the future, and what is no day', async () => {
    for (const until of [daysAgo(0), daysAgo(-3), '2026-02-30', 'yesterday']) {
      const error = await refusalOf(until);
      expect(error).toMatchObject({ code: 'invalid_request', details: { field: 'until' } });
    }
    await expectUntouched();
  });

  it('while days are unproven, all of them listed', async () => {
    await fixture.rows(
      `update rollup_coverage set state = 'built', verified_at = null where period = $1`,
      [FIRST],
    );
    await fixture.rows(`update rollup_coverage set drift_keys = 1 where period = $1`, [LAST]);
    const error = await refusalOf();
    expect(error).toMatchObject({
      code: 'unproven_window',
      details: { unproven_days: [FIRST, LAST] },
    });
    expect(error.message).toContain(`${FIRST}: not verified after their end`);
    expect(error.message).toContain(`${LAST}: the last verification found drift`);
    await expectUntouched();
  });

  it('when a day was verified only before it ended', async () => {
    await fixture.rows(
      `update rollup_coverage set verified_at = $1::date + interval '20 hours' where period = $1`,
      [LAST],
    );
    expect((await refusalOf()).details.unproven_days).toEqual([LAST]);
    await expectUntouched();
  });

  it('of a day whose usage is unpriced, until a signed row prices it; others are archived', async () => {
    const unpriced = randomUUID();
    await fixture.record([
      {
        id: unpriced,
        kilo_user_id: 'ann',
        cost: 0,
        created_at: `${LAST}T09:00:00Z`,
        metadata: { unpriced: true },
      },
    ]);
    // A refund names the row as well, and prices nothing.
    const refund = { kilo_user_id: 'ann', cost: 0, metadata: { adjusts_usage_id: unpriced } };
    await fixture.record([refund]);
    const { url } = fixture.database;
    const plan = await planArchive({ url, until: LAST, directory: fixture.directory });
    const blocker = { kind: 'unpriced', day: LAST, rows: 1 };
    expect(plan).toMatchObject({ blockers: [blocker], left: [blocker], days: [{ day: FIRST }] });
    expect(await fixture.archive(LAST)).toMatchObject({
      days: 1,
      from: FIRST,
      failures: [
        {
          period: LAST,
          message: expect.stringContaining('1 usage rows without a price; run `price-unpriced`'),
        },
      ],
    });
    const error = await refusalOf();
    expect(error.details.blockers).toEqual([{ kind: 'unpriced', day: LAST, rows: 1 }]);
    await fixture.record([
      {
        kilo_user_id: 'ann',
        cost: 55,
        metadata: { adjusts_usage_id: unpriced, price_source: 'list' },
      },
    ]);
    expect(await fixture.archive(LAST)).toMatchObject({ days: 1, failures: [] });
    await fixture.expectExact();
  });

  it('for a row that prices usage which stays', async () => {
    const unpriced = randomUUID();
    await fixture.record([
      {
        id: unpriced,
        kilo_user_id: 'ann',
        cost: 0,
        created_at: `${daysAgo(4)}T00:00:00Z`,
        metadata: { unpriced: true },
      },
      {
        kilo_user_id: 'ann',
        cost: 7,
        created_at: `${LAST}T23:59:00Z`,
        metadata: { adjusts_usage_id: unpriced, price_source: 'list' },
      },
    ]);
    expect((await fixture.archive(LAST)).failures).toEqual([
      { period: LAST, message: expect.stringContaining('1 rows that price usage of a later day') },
    ]);
    expect(await fixture.archive(daysAgo(4))).toMatchObject({ days: 2, failures: [] });
  });

  it('of rows that cannot be settled, and of no others; once they can be, they go too', async () => {
    // No payer's row can hold more: what comes stays unsettled, and is reported exactly.
    const setUsed = (used: bigint) =>
      fixture.rows(
        `update kilocode_users set microdollars_used = $1::bigint, opening_microdollars_used = $1
         where id = 'rich'`,
        [String(used)],
      );
    await fixture.addUser('rich');
    await setUsed(92n * 10n ** 17n - 1n);
    const event = { kilo_user_id: 'rich', created_at: `${LAST}T10:00:00Z` };
    await fixture.record([
      { ...event, cost: 5 },
      { ...event, cost: 7 },
    ]);
    const report = await fixture.archive(LAST, { waitMs: WAIT_MS });
    expect(report).toMatchObject({ days: 1, from: FIRST, rows: ROWS - ROWS / 3 });
    expect(report.failures).toEqual([{ period: LAST, message: expect.stringContaining('2 rows') }]);
    expect(report.failures[0]?.message).toContain('not settled yet (2)');
    expect(await fixture.rawIds()).toHaveLength(ROWS / 3 + 2);
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    await setUsed(0n);
    expect(await fixture.archive(LAST)).toMatchObject({ days: 1, rows: 2, failures: [] });
    await fixture.expectExact();
  });

  it('of a key whose row cannot hold what is moved, and of no other key', async () => {
    await fixture.addUser('aaa rich');
    const e18 = 10n ** 18n;
    await fixture.rows(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       select ('00000000-0000-4000-8000-00000000000' || place)::uuid, 'aaa rich', cost,
         $2::timestamptz + make_interval(secs => place)
       from unnest($1::bigint[]) with ordinality as c(cost, place)`,
      [[9n * e18, 9n * e18, 5n, -9n * e18, -8n * e18].map(String), `${LAST}T10:00:00Z`],
    );
    await fixture.rows(
      `insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
       values ('aaa rich', $1, $2)`,
      [LAST, String(e18 + 5n)],
    );
    await fixture.rows(`update kilocode_users set microdollars_used = $1 where id = 'aaa rich'`, [
      String(e18 + 5n),
    ]);
    // First one, then two at once.
    const limits = { rowsPerTransaction: 1 };
    // A part that the row cannot hold waits for those that make room, or leaves the day for later.
    const report = await archiveInTime(() => fixture.archive(LAST, { waitMs: WAIT_MS, limits }));
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    const others = await fixture.rows(
      `select from microdollar_usage where kilo_user_id <> 'aaa rich' and created_at < $1::date + 1`,
      [LAST],
    );
    expect(others).toEqual([]);
    if (report.failures.length > 0) {
      expect(report.failures).toMatchObject([{ period: LAST }]);
      expect(await fixture.archive(LAST)).toMatchObject({ days: 1, failures: [] });
    }
    const costs = (await fixture.archived()).filter((event) => event.kilo_user_id === 'aaa rich');
    expect(costs.map((event) => event.cost)).toContain(String(9n * e18));
    await fixture.expectExact();
  });

  it('while another one runs', async () => {
    const client = await fixture.database.pool.connect();
    await client.query(
      'select pg_advisory_lock(1297369171, $$ledger_settings$$::regclass::integer)',
    );
    const error = await ledgerErrorOf(fixture.archive(LAST, { waitMs: 200 }));
    expect(error.message).toMatch(/another archive is running on this database \(pid \d+\)/);
    await client.query('select pg_advisory_unlock_all()');
    client.release();
    await expectUntouched();
  });

  it('for a directory that is none, or holds the files of another database', async () => {
    const path = join(fixture.directory, 'file');
    await writeFile(path, '');
    const error = await ledgerErrorOf(fixture.archive(LAST, { directory: join(path, 'x') }));
    expect(error).toMatchObject({ code: 'invalid_request', details: { field: 'out' } });
    const plan = planArchive({ url: fixture.database.url, until: LAST, directory: path });
    expect(await ledgerErrorOf(plan.then((made) => made))).toMatchObject({
      code: 'invalid_request',
    });
    await expectUntouched();

    const other = await createArchiveFixture();
    await other.addUser('u');
    await other.record([{ kilo_user_id: 'u', cost: 1, created_at: `${LAST}T00:00:00Z` }]);
    await other.prove();
    await other.archive(LAST, { directory: fixture.directory });
    expect((await refusalOf()).message).toContain('holds the archive of database');
    await other.close();
    expect(await fixture.rawIds()).toHaveLength(ROWS - ROWS / 3);
  });

  it('of a day into which a foreign program wrote since it was verified', async () => {
    await fixture.rows(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       values (gen_random_uuid(), 'ann', 13, $1)`,
      [`${LAST}T05:00:00Z`],
    );
    const report = await fixture.archive(LAST);
    expect(report).toMatchObject({ days: 1, from: FIRST });
    expect(report.failures).toEqual([
      { period: LAST, message: expect.stringContaining('verification found 1 wrong keys') },
    ]);
    const left = await fixture.rows<{ day: string }>(
      `select distinct (created_at at time zone 'UTC')::date::text as day from microdollar_usage`,
    );
    expect(left.map(({ day }) => day).sort()).toEqual([LAST, daysAgo(4)]);
    // Now nothing else is left to do.
    const error = await refusalOf();
    expect(error).toMatchObject({ code: 'unproven_window', details: { unproven_days: [LAST] } });
  });
});

describe('a day', () => {
  it('is not marked while it has rows: one that came behind the reader goes with the next file', async () => {
    const late = randomUUID();
    let names = 0;
    // Committed before the first file is moved, of a user whom the reader has passed.
    const fileSystem: ArchiveFileSystem = {
      ...nodeArchiveFileSystem,
      async name(draft, path) {
        if (names++ === 0) {
          await fixture.rows(
            `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
             values ($1, '0', 0, $2)`,
            [late, `${FIRST}T05:00:00Z`],
          );
        }
        await nodeArchiveFileSystem.name(draft, path);
      },
    };
    expect(await fixture.archive(FIRST, { fileSystem })).toMatchObject({ days: 1, files: 2 });
    expect(await fixture.rawIds()).toHaveLength(ROWS - ROWS / 3);
    expect((await fixture.archived()).map(({ id }) => id)).toContain(late);
  });
});

describe('the command', () => {
  const run = (...argv: string[]) =>
    runCommand(
      { DATABASE_URL: fixture.database.url, MICRODOLLAR_DATA_DIR: fixture.directory },
      '--json',
      'archive',
      '--out',
      fixture.directory,
      ...argv,
    );

  it('shows its plan, archives, and then has nothing to do', async () => {
    await fixture.rows('alter table microdollar_usage add column is_deleted boolean');
    const column = 'microdollar_usage.is_deleted';
    const plan = await run('--until', LAST, '--dry-run');
    expect(plan.status).toBe(0);
    expect(JSON.parse(plan.stdout)).toMatchObject({
      dry_run: true,
      days: [
        { day: FIRST, state: 'verified', raw_rows: 20 },
        { day: LAST, state: 'verified', raw_rows: 20 },
      ],
      blockers: [],
      left_out: [column],
    });
    await expectUntouched();
    expect(await readdir(fixture.directory)).toEqual([]);
    const done = await run('--until', LAST);
    expect(done.status).toBe(0);
    expect(JSON.parse(done.stdout)).toMatchObject({
      days: 2,
      rows: 40,
      files: 2,
      left_out: [column],
    });
    expect(JSON.parse((await run('--until', LAST)).stdout)).toMatchObject({ days: 0 });
  });

  it('ends with 2 for a bad day, 1 for unproven ones', async () => {
    expect((await run('--until', daysAgo(0))).status).toBe(2);
    expect((await run('--until', LAST, '--wait', 'x')).status).toBe(2);
    await fixture.rows(`delete from rollup_coverage where period = $1`, [LAST]);
    const refused = await run('--until', LAST);
    expect(refused.status).toBe(1);
    expect(JSON.parse(refused.stdout).error.details.unproven_days).toEqual([LAST]);
    const plan = await run('--until', LAST, '--dry-run');
    expect(plan.status).toBe(1);
    expect(JSON.parse(plan.stdout).blockers).toMatchObject([{ kind: 'unproven', day: LAST }]);
  });
});
