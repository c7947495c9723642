import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import type { UsageEvent } from '../../src/record/types.js';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';
import { compareStatement } from '../../src/report/shadow.sql.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import { DAILY_ROLLUP } from '../../src/rollup/declaration.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { PERSONAL_LOOKUP_NAMES } from '../../src/schema/lookups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import {
  type ArchiveFixture,
  createArchiveFixture,
  daysAgo,
  reportedTotals,
} from './archiveHarness.js';
import { ledgerErrorOf } from './ledgerHarness.js';

const FIRST = daysAgo(12);
const LAST = daysAgo(9);

let fixture: ArchiveFixture;
let organization: string;
let events: (UsageEvent & { id: string })[];

/** Four users, two scopes, days 12 to 5 ago; among them refunds, zero cost, and cancelling costs. */
beforeEach(async () => {
  fixture = await createArchiveFixture();
  for (const id of ['ann', 'bob', 'cid', 'zero']) await fixture.addUser(id);
  organization = await fixture.addOrganization();
  events = Array.from({ length: 240 }, (_, index) => ({
    id: randomUUID(),
    kilo_user_id: ['ann', 'bob', 'cid'][index % 3] ?? '',
    organization_id: index % 5 === 4 ? organization : null,
    cost: index % 11 === 10 ? -40 : 100 + index,
    input_tokens: index,
    model: 'm',
    created_at: `${daysAgo(12 - (index % 8))}T${String(index % 24).padStart(2, '0')}:59:59.123456Z`,
    metadata:
      index % 2 === 0 ? { latency: 0.1 + index, feature: 'chat', http_ip: '192.0.2.1' } : null,
  }));
  events.push(
    { id: randomUUID(), kilo_user_id: 'zero', cost: 0, created_at: `${FIRST}T00:00:00.000000Z` },
    { id: randomUUID(), kilo_user_id: 'zero', cost: 70, created_at: `${LAST}T01:00:00.000000Z` },
    { id: randomUUID(), kilo_user_id: 'zero', cost: -70, created_at: `${LAST}T02:00:00.000000Z` },
  );
  await fixture.record(events);
  await fixture.prove();
});

afterEach(() => fixture.close());

const dayOf = (event: UsageEvent) => String(event.created_at).slice(0, 10);
const coverage = async () =>
  fixture.rows<{ day: string; state: string }>(
    `select period::text as day, state from rollup_coverage
     where rollup = 'microdollar_usage_daily' order by period`,
  );
/** Stops after so many chunks, as a run that was interrupted. */
const stopAfter = (chunks: number) => {
  const abort = new AbortController();
  let moved = 0;
  return {
    signal: abort.signal,
    limits: { rowsPerFile: 20, rowsPerTransaction: 3 },
    onStep: (step: string) => {
      if (step === 'moved' && ++moved === chunks) abort.abort();
    },
  };
};

describe('an archive', () => {
  it('moves every row of its days into files, and changes no reported amount', async () => {
    const before = await reportedTotals(fixture);
    const old = events.filter((event) => dayOf(event) <= LAST);
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
      events
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
    expect((await fixture.archived()).length + (await fixture.rawIds()).length).toBe(events.length);
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
    await fixture.archive(LAST, { limits: { rowsPerFile: 1, rowsPerTransaction: 1 } });
    await fixture.expectExact();
    expect(await fixture.rawIds()).toHaveLength(events.filter((e) => dayOf(e) > LAST).length);
  });

  it('reads back what `import` would record anew: one vocabulary', async () => {
    await fixture.archive(LAST);
    const other = await createArchiveFixture();
    for (const id of ['ann', 'bob', 'cid', 'zero']) await other.addUser(id);
    await other.rows(`insert into organizations (id, name) values ($1, 'o')`, [organization]);
    await other.record((await fixture.archived()) as unknown as UsageEvent[]);
    await other.expectExact();
    await other.close();
  });
});

describe('with half a day archived', () => {
  beforeEach(async () => {
    await fixture.archive(LAST, stopAfter(3));
    const raw = await fixture.rows<{ count: string }>(
      `select count(*) from microdollar_usage where created_at < $1::date + 1`,
      [FIRST],
    );
    const all = events.filter((event) => dayOf(event) === FIRST).length;
    expect(Number(raw[0]?.count)).toBeGreaterThan(0);
    expect(Number(raw[0]?.count)).toBeLessThan(all);
  });

  it('totals, verify and balances are right', async () => {
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    const { url } = fixture.database;
    expect((await verifyRollup({ url, rollup: DAILY_ROLLUP })).drifts).toEqual([]);
    const balances = await verifyBalances({ url });
    expect(balances).toMatchObject({ drifted: 0, checked: 5 });
  });

  it('repair changes nothing on a clean day, and restores a total that was damaged', async () => {
    const { url } = fixture.database;
    const before = await reportedTotals(fixture);
    expect(await repairRollup({ url, rollup: DAILY_ROLLUP })).toMatchObject({ repaired: 0 });
    await fixture.rows(
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 9
       where usage_date = $1`,
      [FIRST],
    );
    const repaired = await repairRollup({ url, rollup: DAILY_ROLLUP });
    expect(repaired.repaired).toBeGreaterThan(0);
    expect(repaired.left?.drifts).toEqual([]);
    expect(await reportedTotals(fixture)).toEqual(before);
  });

  it('raw reads and rollup reads answer the same', async () => {
    for (const user of ['ann', 'bob', 'cid', 'zero']) {
      const answers = await Promise.all(
        (['raw', 'rollup'] as const).map(async (source) => {
          const total = threeMonthTotalStatement(source, user, null);
          const [row] = await fixture.rows<{ total_cost_microdollars: string }>(
            total.text,
            total.values,
          );
          const query = { kiloUserId: user, from: FIRST, until: daysAgo(0) };
          const days = [];
          for (const organizationId of [null, organization]) {
            const daily = dailyUsageStatement(source, { ...query, organizationId });
            const found = await fixture.rows<Record<string, unknown>>(daily.text, daily.values);
            days.push(found.map((each) => [each.usage_date, each.total_cost_microdollars]));
          }
          return { total: row?.total_cost_microdollars, days };
        }),
      );
      expect(answers[0]).toEqual(answers[1]);
      const shadow = compareStatement({
        kiloUserId: user,
        organizationId: null,
        from: null,
        until: null,
        asOf: null,
      });
      expect(await fixture.rows(shadow.text, shadow.values)).toMatchObject([
        { different_days: '0' },
      ]);
    }
  });

  it('a second run takes up the file that was left, and ends exact', async () => {
    const report = await fixture.archive(LAST);
    expect(report.filesTakenUp).toBe(1);
    const files = (await fixture.archived()).map((event) => event.id);
    expect(new Set(files).size).toBe(files.length);
    expect([...files, ...(await fixture.rawIds())].sort()).toEqual(
      events.map((event) => event.id).sort(),
    );
    await fixture.expectExact();
  });
});

describe('the horizon', () => {
  it('refuses older events, and replays of archived ids, on every path', async () => {
    await fixture.archive(LAST);
    const replay = events.find((event) => dayOf(event) === LAST) as UsageEvent;
    const fresh = { kilo_user_id: 'ann', cost: 5, created_at: `${LAST}T23:59:59.999999Z` };
    const append = await fixture.open({ appendAlways: true });
    for (const ledger of [fixture.ledger, append]) {
      for (const event of [replay, fresh]) {
        expect(await ledgerErrorOf(ledger.recordUsage(event))).toMatchObject({
          code: 'archived_period',
        });
      }
      const results = await ledger.recordUsageBatch([replay, fresh]);
      expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected']);
    }
    const accepted = { ...fresh, created_at: `${daysAgo(8)}T00:00:00Z` };
    expect(await fixture.ledger.recordUsage(accepted)).toMatchObject({ status: 'recorded' });
    await fixture.expectExact();
  });

  it('is not passed before every older transaction has ended: its events are archived too', async () => {
    const client = await fixture.database.pool.connect();
    // The snapshot of the statement is old; so is what it thinks of the horizon.
    await client.query('begin isolation level repeatable read');
    await client.query('select 1 from ledger_settings');
    const notices: string[] = [];
    const late = randomUUID();
    let ended = false;
    const archiving = fixture.archive(LAST, {
      onNotice: async (message) => {
        notices.push(message);
        const inserted = await client.query(
          `select status from microdollar_record_usage($1, 'ann', null, null, 'late', null, null, null,
             33, 1, 1, 0, 0, null, false, $2, null, false)`,
          [late, `${FIRST}T10:00:00Z`],
        );
        expect(inserted.rows).toEqual([{ status: 'recorded' }]);
        expect(await fixture.archived()).toEqual([]);
        ended = true;
        await client.query('commit');
      },
    });
    await archiving;
    client.release();
    expect(ended).toBe(true);
    expect(notices.join()).toMatch(
      /waiting for transactions that began before the horizon: pid \d+/,
    );
    expect((await fixture.archived()).map((event) => event.id)).toContain(late);
    await fixture.expectExact();
  });

  it('names who is in the way, deletes nothing, and goes on later', async () => {
    const client = await fixture.database.pool.connect();
    await client.query('begin');
    const error = await ledgerErrorOf(fixture.archive(LAST, { waitMs: 300 }));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toMatch(/still open: pid \d+/);
    expect(await fixture.rawIds()).toHaveLength(events.length);
    await client.query('rollback');
    client.release();
    expect(await fixture.archive(LAST)).toMatchObject({ days: 4 });
    await fixture.expectExact();
  });

  it('is refused while a gateway request dated below it is in flight', async () => {
    await fixture.rows(
      `insert into gateway_intents (id, owner, kilo_user_id, api_kind, input_tokens_estimate,
         streamed, created_at)
       values (gen_random_uuid(), gen_random_uuid(), 'ann', 'chat', 1, false, $1)`,
      [`${LAST}T23:59:59Z`],
    );
    const error = await ledgerErrorOf(fixture.archive(LAST));
    expect(error.code).toBe('unproven_window');
    expect(error.message).toContain('gateway requests whose usage is not recorded yet');
    expect(error.details.blockers).toMatchObject([
      { kind: 'request_in_flight', day: LAST, rows: 1 },
    ]);
  });
});

describe('personal data (I11)', () => {
  const personal = {
    user_prompt_prefix: 'p',
    vercel_ip_latitude: 1.5,
    vercel_ip_longitude: 2.5,
    machine_id: 'm',
    session_id: 's',
    ...Object.fromEntries(PERSONAL_LOOKUP_NAMES.map((name) => [name, `v ${name}`])),
  };
  const other = { status_code: 200, latency: 0.25, is_byok: false, editor_name: 'e' };
  const recordFor = (kilo_user_id: string) =>
    fixture.record([
      {
        kilo_user_id,
        cost: 1,
        created_at: `${FIRST}T03:00:00Z`,
        metadata: { ...personal, ...other },
      },
    ]);
  const metadataOf = async (user: string) =>
    (await fixture.archived()).filter((event) => event.kilo_user_id === user).at(-1)?.metadata;

  it('is left out, and it is exactly what soft deletion scrubs', async () => {
    await fixture.addUser('x');
    await fixture.addUser('y');
    await recordFor('x');
    await recordFor('y');
    await softDeleteUser(fixture.database.pool, 'y');
    await fixture.archive(LAST);
    expect(await metadataOf('x')).toEqual(other);
    expect(await metadataOf('y')).toEqual(other);
    expect(
      await fixture.rows(`select from microdollar_usage_metadata where kilo_user_id = 'x'`),
    ).toEqual([]);
  });

  it('is kept when asked for, but never of a deleted user', async () => {
    await fixture.addUser('x');
    await fixture.addUser('y');
    await recordFor('x');
    await recordFor('y');
    await fixture.rows(`update kilocode_users set deleted_at = now() where id = 'y'`);
    await fixture.archive(LAST, { withPersonalData: true });
    expect(await metadataOf('x')).toEqual({ ...personal, ...other });
    expect(await metadataOf('y')).toEqual(other);
  });

  it('writes lookup values that have no id yet', async () => {
    await fixture.rows(
      `insert into microdollar_usage_metadata (id, kilo_user_id, lookup_values)
       values ($1, 'zero', '{"feature": "waiting"}')`,
      [events.at(-3)?.id],
    );
    await fixture.archive(LAST);
    expect(await metadataOf('zero')).toBeUndefined();
    const [first] = (await fixture.archived()).filter((event) => event.kilo_user_id === 'zero');
    expect(first?.metadata).toEqual({ feature: 'waiting' });
  });
});

describe('rows that others hold', () => {
  it('are moved later; nobody is waited for', async () => {
    const client = await fixture.database.pool.connect();
    const held = events.filter((event) => dayOf(event) === FIRST).slice(0, 3);
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
        setTimeout(() => void client.query('rollback'), 600);
      }),
    });
    client.release();
    expect(report.rows).toBe(events.filter((event) => dayOf(event) <= LAST).length);
    expect(report.longestTransactionMs).toBeLessThan(2_000);
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
