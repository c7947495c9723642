import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { UsageEvent } from '../../src/record/types.js';
import {
  createArchiveFixture,
  createFilledFixture,
  dayOf,
  daysAgo,
  FIRST,
  type FilledFixture,
  LAST,
  reportedTotals,
} from './archiveHarness.js';

let fixture: FilledFixture;

beforeEach(async () => {
  fixture = await createFilledFixture();
});

afterEach(() => fixture.close());

const coverage = async () =>
  fixture.rows<{ day: string; state: string }>(
    `select period::text as day, state from rollup_coverage
     where rollup = 'microdollar_usage_daily' order by period`,
  );
describe('an archive', () => {
  it('moves every row of its days into files, and changes no reported amount', async () => {
    const before = await reportedTotals(fixture);
    const old = fixture.events.filter((event) => dayOf(event) <= LAST);
    const report = await fixture.archive(LAST, {
      withPersonalData: true,
      limits: { rowsPerFile: 25, rowsPerTransaction: 10 },
    });
    expect(report).toMatchObject({
      from: FIRST,
      until: LAST,
      days: 4,
      rows: old.length,
      horizon: `${daysAgo(8)}T00:00:00Z`,
      costMicrodollars: BigInt(old.reduce((sum, event) => sum + event.cost, 0)),
    });
    expect(report.files).toBeGreaterThan(4);
    expect(await reportedTotals(fixture)).toEqual(before);
    await fixture.expectExact();

    const files = new Map((await fixture.archived()).map((event) => [event.id, event]));
    expect([...files.keys()].sort()).toEqual(old.map((event) => event.id).sort());
    for (const { metadata, organization_id, ...event } of old) {
      const archived = files.get(event.id);
      expect(archived).toMatchObject({ ...event, ...(metadata ? { metadata } : {}) });
      expect(archived?.organization_id ?? null).toBe(organization_id ?? null);
    }
    expect((await fixture.rawIds()).sort()).toEqual(
      fixture.events
        .filter((event) => dayOf(event) > LAST)
        .map((event) => event.id)
        .sort(),
    );
    const states = (await coverage()).filter(({ day }) => day >= FIRST && day <= LAST);
    expect(states.map(({ state }) => state)).toEqual([
      'archived',
      'archived',
      'archived',
      'archived',
    ]);
  });

  it('run again, has nothing to do; a later one goes on behind it', async () => {
    await fixture.archive(LAST);
    expect(await fixture.archive(LAST)).toMatchObject({ days: 0, rows: 0, files: 0, from: null });
    const later = await fixture.archive(daysAgo(7));
    expect(later).toMatchObject({ from: daysAgo(8), days: 2 });
    expect((await fixture.archived()).length + (await fixture.rawIds()).length).toBe(
      fixture.events.length,
    );
    await fixture.expectExact();
  });

  it('touches no counter of a key whose cost was zero (I6)', async () => {
    await fixture.archive(FIRST);
    expect(
      await fixture.rows(
        `select from microdollar_usage_daily where kilo_user_id = 'zero' and usage_date = $1`,
        [FIRST],
      ),
    ).toEqual([]);
  });

  it('makes a missing counter row when rows of a key that cancel out are moved apart', async () => {
    await fixture.rows(`delete from microdollar_usage_daily where kilo_user_id = 'zero'`);
    await fixture.prove();
    await fixture.archive(LAST, { limits: { rowsPerFile: 1 } });
    await fixture.expectExact();
    expect(await fixture.rawIds()).toHaveLength(
      fixture.events.filter((e) => dayOf(e) > LAST).length,
    );
  });

  it('reads back what `import` would record anew: one vocabulary', async () => {
    await fixture.archive(LAST);
    const other = await createArchiveFixture();
    for (const id of ['ann', 'bob', 'cid', 'zero']) await other.addUser(id);
    await other.rows(`insert into organizations (id, name) values ($1, 'o')`, [
      fixture.organization,
    ]);
    await other.record((await fixture.archived()) as unknown as UsageEvent[]);
    await other.expectExact();
    await other.close();
  });
});

describe('rows that others hold', () => {
  it('are moved later; nobody is waited for', async () => {
    const client = await fixture.database.pool.connect();
    const held = fixture.events.filter((event) => dayOf(event) === FIRST).slice(0, 3);
    const others = fixture.events.filter(
      (event) => dayOf(event) === FIRST && !held.includes(event) && event.kilo_user_id !== 'bob',
    );
    // An archive that waited would end neither before this nor after it.
    const untilOthersMoved = async () => {
      const raw = 'select from microdollar_usage where id = any($1)';
      const ids = others.map((event) => event.id);
      while (!isOver && (await fixture.rows(raw, [ids])).length > 0) await sleep(20);
    };
    let released: Promise<unknown> = Promise.resolve();
    let isOver = false;
    onTestFinished(() => {
      isOver = true;
    });
    const report = await fixture.archive(LAST, {
      limits: { rowsPerTransaction: 4 },
      // After the fence, which would wait for it.
      fileSystem: await holdingFileSystem(async () => {
        await client.query('begin');
        await client.query('select from microdollar_usage where id = $1 for update', [held[0]?.id]);
        await client.query('select from microdollar_usage_metadata where id = any($1) for update', [
          held.map((event) => event.id),
        ]);
        await client.query(
          `select from microdollar_usage_daily where usage_date = $1 and kilo_user_id = 'bob'
           for update`,
          [FIRST],
        );
        released = untilOthersMoved().then(() => client.query('rollback'));
      }),
    });
    await released;
    client.release();
    expect(report.rows).toBe(fixture.events.filter((event) => dayOf(event) <= LAST).length);
    await fixture.expectExact();
  });
});

/** The real one, with something done before the first file gets its name. */
async function holdingFileSystem(before: () => Promise<void>) {
  const { nodeArchiveFileSystem } = await import('../../src/rollup/archive/fileSystem.js');
  let isFirst = true;
  return {
    ...nodeArchiveFileSystem,
    async name(draft: string, path: string) {
      if (isFirst) await before();
      isFirst = false;
      await nodeArchiveFileSystem.name(draft, path);
    },
  };
}
