import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { foldBudgetsStatement } from '../../src/budgets/fold.sql.js';
import { lockBudgetsStatement, openWindowsStatement } from '../../src/budgets/openWindows.sql.js';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Statement } from '../../src/db/statement.js';
import { moveChunk } from '../../src/rollup/archive/moveRows.js';
import type { ArchivedRow } from '../../src/rollup/archive/readFile.js';
import { SLOTS } from '../../src/schema/budgets.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { databaseUrl } from '../support/database.js';
import { openSessions, type Session } from '../support/sessions.js';
import { addAlerted, thresholdsOf } from './alertHarness.js';
import { type ArchiveFixture, createArchiveFixture, daysAgo } from './archiveHarness.js';
import {
  addBudget,
  addPayer,
  expectIdentity,
  foldBudgets,
  newHold,
  windowsOf,
} from './budgetHarness.js';
import { addGrant, expirerOf, grantsOf, setExpiry } from './grantHarness.js';

/** What the archive takes away while somebody who needs it has not looked: budgets, holds, alerts, grants. */
let fixture: ArchiveFixture;
let user: string;
let day: string;
let daysLeft = 14;

beforeAll(async () => {
  fixture = await createArchiveFixture();
});
beforeEach(async () => {
  day = daysAgo(daysLeft--);
  user = await fixture.addUser();
});
afterAll(() => fixture.close());

const at = (time: string) => `${day}T${time}:00Z`;
const use = (cost: number, time = '12:00', more: object = {}) =>
  fixture.record([{ kilo_user_id: user, cost, created_at: at(time), ...more }]);
const run = (by: Session, { text, values }: Statement) => by.run(text, values as unknown[]);

async function expectSpent(...spent: number[]): Promise<void> {
  await foldBudgets(fixture.ledger, { user });
  expect((await windowsOf(fixture, user)).map((window) => window.spent)).toEqual(spent);
  await expectIdentity(fixture);
}

/** Raw rows of the user. */
const rowsOf = () =>
  fixture.rows<ArchivedRow>(
    `select id, kilo_user_id, organization_id, cost::float as cost,
       to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
     from microdollar_usage where kilo_user_id = $1`,
    [user],
  );

describe('the first budgets of a payer', () => {
  const addOfProject = () =>
    addBudget(fixture, {
      scope: 'project',
      payer: { user },
      project: 'x',
      limit: 5_000,
      period: 'total',
    });

  it('that are opened between the look at a row and its delete have it', async () => {
    await using sessions = await openSessions(fixture.database.url, 3);
    const [older, archive, opening] = sessions.all as [Session, Session, Session];
    await older.run('begin');
    await older.run('select txid_current()');
    await use(700, '12:00', { project_id: 'x' });
    await fixture.prove();
    await new DimensionFolder({ query: queryOnPool(fixture.database.pool, false) }).foldAll();
    let isOpened = false;
    // Its mark begins below the row: a fold would count it, and has not got to it yet.
    const open = async () => {
      if (isOpened) return;
      isOpened = true;
      await addOfProject();
      await fixture.ledger.budgetFolder.open(USER_SCOPE, user);
      await opening.run('begin');
      await run(opening, lockBudgetsStatement(USER_SCOPE, user));
      await run(opening, openWindowsStatement(USER_SCOPE, user));
    };
    const client = {
      query: async (query: string | Statement) => {
        if (typeof query !== 'string' && /moveArchivedRows/.test(query.text)) await open();
        return archive.client.query(query as string);
      },
    } as unknown as pg.PoolClient;
    const rows = await rowsOf();
    // Null: it took too long on a busy machine, and left everything.
    while ((await moveChunk(client, day, rows)) === null);
    await open();
    const limits = { rows: 1_000, slots: SLOTS, asked: 0 };
    await run(opening, foldBudgetsStatement(USER_SCOPE, user, limits));
    await opening.run('commit');
    await expectSpent(700, 700);
  });

  it('are opened by the archive where an older transaction of another database stays', async () => {
    await using sessions = await openSessions(databaseUrl(fixture.database.url, 'postgres'), 1);
    const [elsewhere] = sessions.all as [Session];
    await elsewhere.run('begin');
    await elsewhere.run('select txid_current()');
    await use(700, '12:00', { project_id: 'x' });
    await fixture.prove();
    await fixture.archive(day);
    expect(await rowsOf()).toEqual([]);
    await addOfProject();
    await expectSpent(700, 700);
  });
});

describe('usage with the id of a hold of another payer', () => {
  it('is archived, and the hold is given back', async () => {
    const other = await addPayer(fixture, 1_000);
    const { id } = await fixture.ledger.hold(newHold(other, 900));
    await use(5, '12:00', { id });
    await fixture.prove();
    await fixture.archive(day, { waitMs: 10_000 });
    expect(await rowsOf()).toEqual([]);
    expect(await windowsOf(fixture, other)).toMatchObject([{ held: 0, spent: 0 }]);
    expect(await fixture.ledger.hold(newHold(other, 1_000))).toMatchObject({ status: 'granted' });
    await expectIdentity(fixture);
  });
});

describe('a hold of a day that is archived meanwhile', () => {
  const settle = async (id: string, more: object = {}) =>
    (await fixture.open()).settle(id, { kilo_user_id: user, cost: 70, ...more });
  let id: string;

  beforeEach(async () => {
    user = await addPayer(fixture, 1_000);
    ({ id } = await fixture.ledger.hold(newHold(user, 100)));
    await fixture.rows('update usage_holds set created_at = $2 where id = $1', [id, at('23:50')]);
    await use(5);
    await fixture.prove();
    await fixture.archive(day);
  });

  it('is settled as of now, once', async () => {
    const { created_at: now, ...first } = await settle(id);
    expect(first).toMatchObject({ status: 'recorded', new_microdollars_used: 75 });
    expect(Date.parse(now)).toBeGreaterThan(Date.now() - 600_000);
    expect(await settle(id)).toMatchObject({ status: 'duplicate', created_at: now });
    const other = settle(id, { cost: 71 });
    await expect(other).rejects.toMatchObject({ code: 'idempotency_conflict' });
    await expectSpent(75);
    expect(await settle(id)).toMatchObject({ status: 'duplicate', created_at: now });
    expect(await windowsOf(fixture, user)).toMatchObject([{ held: 0 }]);
  });

  it('is refused where the caller names the time, or it was released', async () => {
    const refused = { code: 'archived_period' };
    await expect(settle(id, { created_at: at('23:55') })).rejects.toMatchObject(refused);
    await fixture.ledger.release(id);
    await expect(settle(id)).rejects.toMatchObject(refused);
    await expectSpent(5);
  });
});

describe('an alert', () => {
  it('tells what is crossed by usage that the archive counts, of a window that has ended', async () => {
    const alerted = await addAlerted(fixture, fixture.ledger, { thresholds_percent: [50] });
    user = alerted.user;
    await fixture.rows(
      `update budget_windows as w
       set window_start = $2::timestamptz, window_end = $2::timestamptz + interval '1 day'
       from budgets as b where b.id = w.budget_id and b.period = 'day' and b.payer_id = $1`,
      [user, at('00:00')],
    );
    await fixture.rows('update usage_alerts set set_at = $2 where payer_id = $1', [
      user,
      at('00:00'),
    ]);
    await use(60);
    await fixture.prove();
    await fixture.archive(day);
    expect(await rowsOf()).toEqual([]);
    expect(await thresholdsOf(fixture, user)).toEqual([50]);
    await expectIdentity(fixture);
  });
});

describe('a grant', () => {
  let grant: string;
  const look = () => expirerOf(fixture.ledger).expirePayer(USER_SCOPE, user);
  const expectGrants = async (never: object, expiring: object) =>
    expect(await grantsOf(fixture.ledger, { kilo_user_id: user })).toMatchObject([
      never,
      { left: 0, ...expiring },
    ]);

  /** 500 that never expire, and 1,000 that do at noon. */
  beforeEach(async () => {
    await addCredit(fixture.ledger.pool, { kilo_user_id: user, usd: '0.0005' });
    grant = await addGrant(fixture.ledger, { kilo_user_id: user }, 1_000);
  });

  it('is not paid with once its time was over, though nobody looked before the archive', async () => {
    await use(100, '11:00');
    await use(250, '13:00');
    await setExpiry(fixture, [grant], new Date(at('12:00')));
    await fixture.prove();
    await fixture.archive(day);
    await look();
    await expectGrants({ left: 250, used: 250 }, { used: 100, expired: 900 });
    await expectIdentity(fixture);
  });

  it('keeps late usage that it paid, counted before the archive or by it', async () => {
    const { id: hold } = await fixture.ledger.hold(newHold(user, 200));
    await fixture.rows('update usage_holds set created_at = $2 where id = $1', [hold, at('10:00')]);
    await setExpiry(fixture, [grant], new Date(at('12:00')));
    expect(await look()).toMatchObject([{ kind: 'expiry', expired_microdollars: 800 }]);
    await use(30, '11:00');
    expect(await look()).toMatchObject([{ expired_microdollars: -30 }]);
    await use(40, '11:30');
    await fixture.prove();
    await fixture.archive(day);
    expect(await rowsOf()).toEqual([]);
    // 200 are held.
    await expectGrants({ left: 500, used: 0 }, { left: 200, used: 70, expired: 730 });
    expect(await look()).toEqual([]);
    await fixture.ledger.release(hold);
    expect(await look()).toMatchObject([{ expired_microdollars: 200 }]);
    await expectGrants({ left: 500, used: 0 }, { used: 70, expired: 930 });
    await expectIdentity(fixture);
  });

  it('that is closed delays no archive', async () => {
    await setExpiry(fixture, [grant], new Date(at('12:00')));
    await look();
    await use(30, '11:00', { id: randomUUID() });
    await fixture.prove();
    await fixture.archive(day);
    expect(await rowsOf()).toEqual([]);
    await expectGrants({ left: 470, used: 30 }, { used: 0, expired: 1_000 });
    await expectIdentity(fixture);
  });
});
