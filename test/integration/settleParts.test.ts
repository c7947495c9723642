import { afterAll, beforeAll, expect, it } from 'vitest';
import { CONNECTION_USES } from '../../src/connections.js';
import { foldStatement } from '../../src/counter/foldDimensions.sql.js';
import { openCountersStatement } from '../../src/counter/openCounters.sql.js';
import { settleStatement } from '../../src/counter/settle.sql.js';
import { Settler } from '../../src/counter/settler.js';
import { queryOn } from '../../src/db/query.js';
import type { Statement } from '../../src/db/statement.js';
import { QUARTER_HOURLY } from '../../src/schema/dimensionRollups.js';
import { ORGANIZATION_SCOPE, USAGE_LOG, USER_SCOPE } from '../../src/schema/unsettled.js';
import { looksOf, type PlanNode } from '../support/looks.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** Tails that are longer than a part: what a statement reads of one does not grow with it. */
const SCOPES = [USER_SCOPE, ORGANIZATION_SCOPE] as const;

let fixture: LedgerFixture;
let sessions: Sessions;
let session: Session;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  sessions = await openSessions(fixture.database.url, 1);
  session = sessions.all[0] as Session;
  for (const setting of CONNECTION_USES.settle.settings) await session.run(`set ${setting}`);
});
afterAll(async () => {
  // Once: the checker sums every row of these tails.
  await fixture.expectExact();
  await sessions.close();
  await fixture.close();
});

/** A payer with so many transactions of rows, each row of another of 800 days. */
async function addTail(scope: (typeof SCOPES)[number], transactions: number, rows: number) {
  const user = await fixture.addUser();
  const organization = scope === ORGANIZATION_SCOPE ? await fixture.addOrganization() : null;
  for (let n = 0; n < transactions; n++) {
    await fixture.rows(
      `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at, position)
       select gen_random_uuid(), $1, $2, 3, timestamptz '2023-01-01' + i % 800 * interval '1 day',
         microdollar_position()
       from generate_series(1, $3::integer) as i`,
      [user, organization, rows],
    );
  }
  return organization ?? user;
}

it.each(SCOPES)('a part of a tail reads no more than that: $name', async (scope) => {
  const payer = await addTail(scope, 20, 50);
  const limits = { youngXids: 0, rowsPerPayer: 100 };
  // The beginning of the tail for where the part ends, twice beside an open transaction, then the part.
  const settled = await readBy(settleStatement(scope, [payer], [true], limits));
  expect([201, 302]).toContain(settled);
  expect(await readBy(openCountersStatement(USAGE_LOG, scope, [payer], 100))).toBe(201);
});

it.each(SCOPES)('so does a fold of a rollup by dimension: $name', async (scope) => {
  const payer = await addTail(scope, 20, 50);
  await fixture.rows(
    `update microdollar_usage as m set cost = 0, position = -m.position
     from (
       select t.position, row_number() over (order by t.position) as place
       from (select distinct m.position from microdollar_usage as m
         where $1 in (m.kilo_user_id, m.organization_id::text)) as t
     ) as t
     where m.position = t.position and t.place % 2 = 0`,
    [payer],
  );
  await fixture.rows(
    `insert into rollup_marks (rollup, payer_scope, payer_id, settled_below) values ($1, $2, $3, 0)`,
    [QUARTER_HOURLY.name, scope.name, payer],
  );
  // Rows of either sign are looked at for where the part ends.
  expect(await readBy(foldStatement(QUARTER_HOURLY, scope, [payer], 100))).toBe(302);
});

async function readBy({ text, values }: Statement): Promise<number> {
  await session.run('begin');
  const [row] = await session.run<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
    `explain (analyze, timing off, format json) ${text}`,
    [...values],
  );
  await session.run('rollback');
  return readOf(row?.['QUERY PLAN'][0].Plan as PlanNode);
}

/** Rows of the log that a plan reads. */
const readOf = (node: PlanNode & { 'Index Name'?: string }): number =>
  node['Index Name'] === 'idx_microdollar_usage_unsettled'
    ? looksOf(node)
    : (node.Plans ?? []).reduce((sum, each) => sum + readOf(each), 0);

it.each(SCOPES)(
  'a long tail of many new days is opened and settled in parts: $name',
  async (scope) => {
    const payer = await addTail(scope, 6, 4_000);
    const sent: string[] = [];
    const query = queryOn(session.client, true);
    const settler = new Settler({
      query: <Row>(statement: Statement) => {
        sent.push(statement.name.replace(/_(user|organization)/, ''));
        return query<Row>(statement);
      },
    });
    expect(await settler.settle(scope, [payer])).toEqual({ settled: 24_000, left: 0 });
    expect(sent).toEqual([
      'microdollar_settle',
      'microdollar_settle_part',
      // 512 days, then the rest.
      'microdollar_open_microdollar_usage_part',
      'microdollar_open_microdollar_usage_part',
      'microdollar_settle_part',
      'microdollar_settle_part',
      'microdollar_settle',
    ]);
  },
);

it('a settle in parts ends however much is written meanwhile', async () => {
  const payer = await addTail(USER_SCOPE, 6, 4_000);
  const query = queryOn(session.client, true);
  let parts = 0;
  const settler = new Settler({
    query: async <Row>(statement: Statement) => {
      if (statement.name.startsWith('microdollar_settle') && statement.name.includes('part')) {
        if (++parts > 50) throw new Error('no end');
        await fixture.rows(
          `insert into microdollar_usage (id, kilo_user_id, cost, created_at, position)
           values (gen_random_uuid(), $1, 3, '2023-01-01', microdollar_position())`,
          [payer],
        );
      }
      return query<Row>(statement);
    },
  });
  const { settled, left } = await settler.settle(USER_SCOPE, [payer]);
  expect([left, parts < 8, settled === 24_000 + parts]).toEqual([0, true, true]);
});

it('a whole tail that runs into its time, of which no part settles, is not read again', async () => {
  const payer = await addTail(USER_SCOPE, 2, 10);
  await using others = await openSessions(fixture.database.url, 1);
  const holder = others.all[0] as Session;
  await holder.run('begin');
  await holder.run('select from kilocode_users where id = $1 for update', [payer]);
  const query = queryOn(session.client, true);
  const sent: string[] = [];
  const failures: unknown[] = [];
  const settler = new Settler({
    query: async <Row>(statement: Statement) => {
      sent.push(statement.name);
      if (statement.name === 'microdollar_settle_user') {
        throw Object.assign(new Error('statement timeout'), { code: '57014' });
      }
      return query<Row>(statement);
    },
    onError: (error) => failures.push(error),
  });
  await settler.settle(USER_SCOPE, [payer]);
  expect(failures).toMatchObject([{ code: '57014' }]);
  expect(sent.filter((name) => name === 'microdollar_settle_user')).toHaveLength(1);
  await holder.run('rollback');
});
