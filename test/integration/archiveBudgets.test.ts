import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { queryOnPool } from '../../src/db/query.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { openSessions, type Session } from '../support/sessions.js';
import { type ArchiveFixture, createArchiveFixture, daysAgo } from './archiveHarness.js';
import {
  addBudget,
  addPayer,
  expectIdentity,
  foldBudgets,
  newHold,
  windowsOf,
} from './budgetHarness.js';

/** Windows that reach into archived days: all that was spent is in them, once. */
let fixture: ArchiveFixture;
let user: string;
let day: string;
let daysLeft = 9;

const KEY = randomUUID();
const TOTAL = { limit: 5_000, period: 'total' } as const;
const usage = (cost: number, id: string = randomUUID()) => ({
  id,
  kilo_user_id: user,
  project_id: 'x',
  api_key_id: KEY,
  cost,
  created_at: `${day}T12:00:00Z`,
});

beforeAll(async () => {
  fixture = await createArchiveFixture();
});
beforeEach(async () => {
  day = daysAgo(daysLeft--);
  user = await addPayer(fixture, 10_000);
  await fixture.ledger.hold(newHold(user, 0));
  await addBudget(fixture, { ...TOTAL, scope: 'user', payer: { user } });
  await foldBudgets(fixture.ledger, { user });
});
afterAll(() => fixture.close());

const record = (cost: number, id?: string) => fixture.record([usage(cost, id)]);

const foldDimensions = () =>
  new DimensionFolder({ query: queryOnPool(fixture.database.pool, false) }).foldAll();

/** The horizon is raised, and the day still raw. */
async function fence(): Promise<void> {
  const abort = new AbortController();
  await fixture.archive(day, {
    signal: abort.signal,
    onStep: (step) => step === 'fenced' && abort.abort(),
  });
}

/** Its window is opened by the next fold, which sums what was used before. */
const addOfProject = () =>
  addBudget(fixture, { ...TOTAL, scope: 'project', payer: { user }, project: 'x' });
const addOfKey = () => addBudget(fixture, { ...TOTAL, scope: 'key', payer: { user }, key: KEY });

async function expectSpent(...spent: number[]): Promise<void> {
  await foldBudgets(fixture.ledger, { user });
  expect((await windowsOf(fixture, user)).map((window) => window.spent)).toEqual(spent);
  await expectIdentity(fixture);
}

/** As where history was there before the ledger: raw usage, until a rollup of the day is proven. */
async function reported() {
  const of = { kilo_user_id: user, zone: 'Europe/Berlin', from: day, until: day };
  await fixture.rows('update ledger_settings set installed_empty = false');
  const { total, source } = await fixture.ledger.getUsageReport({ ...of, by: ['project'] });
  await fixture.rows('update ledger_settings set installed_empty = true');
  return { mode: source.mode, cost: total.cost_microdollars, requests: total.requests };
}
const ALL = { cost: 701, requests: 2 };

describe('usage that is archived', () => {
  it('before the budgets have counted it is in their windows all the same', async () => {
    await record(700);
    await fixture.prove();
    await fixture.archive(day);
    expect(await fixture.rawIds()).toEqual([]);
    await expectSpent(700, 700);
  });

  it('takes its hold along', async () => {
    const { id } = await fixture.ledger.hold(
      newHold(user, 900, { project_id: 'x', api_key_id: KEY }),
    );
    await record(700, id);
    await fixture.prove();
    await fixture.archive(day);
    await expectSpent(700, 700);
    expect((await windowsOf(fixture, user)).map(({ held }) => held)).toEqual([0, 0]);
  });
});

describe('a window that is opened between the horizon and the move', () => {
  it('counts once what the rollup has and the budgets have not', async () => {
    await record(700);
    await fixture.prove();
    await foldDimensions();
    await fence();
    await addOfProject();
    await expectSpent(700, 700, 700);
    await fixture.archive(day);
    await expectSpent(700, 700, 700);
  });

  it('counts what the budgets have and the rollup has not', async () => {
    await record(1);
    await fixture.prove();
    await using sessions = await openSessions(fixture.database.url, 1);
    const writer = sessions.all[0] as Session;
    await writer.run('begin');
    await insertUsageAndMetadataWithBalanceUpdate(writer.client, usage(700));
    // Whoever began before the horizon may still write below it.
    await expect(fixture.archive(day, { waitMs: 10 })).rejects.toMatchObject({
      code: 'unavailable',
    });
    await writer.run('commit');
    expect(await reported()).toEqual({ mode: 'raw', ...ALL });
    await foldBudgets(fixture.ledger, { user });
    await addOfProject();
    await expectSpent(701, 701, 701);
    await fixture.archive(day);
    await addOfKey();
    await expectSpent(701, 701, 701, 701);
    expect(await reported()).toMatchObject(ALL);
  });
});
