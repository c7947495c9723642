import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Settler } from '../../src/counter/settler.js';
import { Sweep } from '../../src/counter/sweep.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { setExaAllowance } from '../support/exaAllowance.js';
import { inForm } from '../support/form.js';
import { openSessions, type Session } from '../support/sessions.js';
import {
  createLedgerFixture,
  foldAll,
  type LedgerFixture,
  PERSONAL_DAILY,
} from './ledgerHarness.js';

const AT = '2025-05-06T07:08:09Z';
const DAY = '2025-05-06';

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  await setExaAllowance(fixture.database.pool, 50);
  // Every write stays unsettled.
  ledger = await fixture.open({ appendAlways: true });
});

afterAll(() => fixture.close());

const invariants = () => checkInvariants(fixture.database.pool);

async function append(user: string, count: number, organization: string | null = null) {
  const events = Array.from({ length: count }, (_, index) => ({
    kilo_user_id: user,
    organization_id: organization,
    cost: index + 1,
    created_at: AT,
  }));
  const results = await ledger.recordUsageBatch(events);
  expect(results.filter(({ status }) => status !== 'recorded')).toEqual([]);
}

/** Runs work while another session keeps a transaction open in which it ran the statements. */
async function beside(
  statements: [text: string, values: unknown[]][],
  work: (holder: Session) => Promise<void>,
  begin = 'begin',
): Promise<void> {
  await using sessions = await openSessions(fixture.database.url, 1);
  const holder = sessions.all[0] as Session;
  await holder.run(begin);
  for (const [text, values] of statements) await holder.run(text, values);
  await work(holder);
  await holder.run('commit');
}

describe('rows that someone else holds', () => {
  const held: [name: string, text: string][] = [
    ['the user', 'select from kilocode_users where id = $1 for update'],
    ['the daily row', 'select from microdollar_usage_daily where kilo_user_id = $1 for update'],
    [
      'an uncommitted first row of the day',
      `insert into microdollar_usage_daily (kilo_user_id, usage_date) values ($1, '${DAY}')`,
    ],
  ];

  it.each(held)('are skipped, reported, and settled later: %s', async (name, text) => {
    const [user, neighbour] = [await fixture.addUser(), await fixture.addUser()];
    // The neighbour's row exists: a missing one might share the lock of the row that is held.
    await append(neighbour, 1);
    if (!name.includes('uncommitted')) await append(user, 2);
    await foldAll(ledger);
    await append(user, 3);
    await append(neighbour, 3);
    await beside([[text, [user]]], async () => {
      expect(await ledger.fold()).toEqual({ drained: 3, remaining: 3 });
      // What is held up is counted, and is this payer's alone.
      expect(ledger.backlog.depth).toBe(3);
      expect((await ledger.getPendingStatus()).depth).toBe(3);
      expect(await invariants()).toEqual([]);
      expect(await fixture.rows(PERSONAL_DAILY, [neighbour])).toEqual([
        { usage_date: DAY, total: 7 },
      ]);
    });
    await fixture.expectExact();
  });
});

describe('several folds at once', () => {
  it('settle each row once, and together leave nothing', async () => {
    const users = await Promise.all(Array.from({ length: 30 }, () => fixture.addUser()));
    const organization = await fixture.addOrganization();
    const others = await Promise.all([1, 2, 3].map(() => fixture.open()));
    for (let round = 0; round < 8; round++) {
      for (const user of users) {
        await append(user, 1, round % 2 ? organization : null);
      }
      const reports = await Promise.all([ledger, ...others].map((each) => each.fold()));
      const drained = reports.reduce((sum, report) => sum + report.drained, 0);
      expect(drained).toBe(users.length);
      expect(await invariants()).toEqual([]);
      expect(await checkFolded(fixture.database.pool)).toEqual([]);
    }
  });

  it('do not give up on a row that another one held for a moment', async () => {
    const user = await fixture.addUser();
    await append(user, 2);
    await using sessions = await openSessions(fixture.database.url, 1);
    const rival = sessions.all[0] as Session;
    await rival.run('begin');
    await rival.run('select from kilocode_users where id = $1 for update', [user]);
    const query = queryOnPool(fixture.database.pool, false);
    let settles = 0;
    const settler = new Settler({
      query: async (statement) => {
        const rows = await query<never>(statement);
        // The rival ends after a whole round was in vain.
        if (statement.name === 'microdollar_settle_user' && ++settles === 2) {
          await rival.run('commit');
        }
        return rows;
      },
    });
    expect(await new Sweep(query, settler).foldAll()).toEqual({ drained: 2, remaining: 0 });
    await fixture.expectExact();
  });

  it('beside writers keep every snapshot exact', async () => {
    const users = await Promise.all(Array.from({ length: 3 }, () => fixture.addUser()));
    const organization = await fixture.addOrganization();
    const settling = await fixture.open();
    const host = fixture.database.pool;
    let isDone = false;
    let checks = 0;
    const writers = [ledger, settling].map(async (writer) => {
      for (let round = 0; round < 12 || checks < 5; round++) {
        await writer.recordUsageBatch(
          users.flatMap((kilo_user_id, index) => [
            { kilo_user_id, cost: index - 1, created_at: AT },
            { kilo_user_id, cost: 5, organization_id: organization },
          ]),
        );
        await writer.recordExaUsage({ kilo_user_id: users[0] ?? '', cost: 9, path: '/search' });
        // In place, beside.
        for (const kilo_user_id of users) {
          await insertUsageAndMetadataWithBalanceUpdate(host, { kilo_user_id, cost: 3 });
        }
      }
    });
    const folders = [ledger, settling].map(async (folder) => {
      while (!isDone) await folder.fold();
    });
    const violations = new Set<string>();
    const checker = (async () => {
      while (!isDone) {
        for (const violation of await invariants()) violations.add(violation);
        checks++;
        await sleep(inForm(20, 5));
      }
    })();
    await Promise.all(writers);
    isDone = true;
    await Promise.all([...folders, checker]);
    expect([...violations]).toEqual([]);
    await fixture.expectExact();
  });
});

// Last, for every check after it would look at all of these.
describe('payers that someone else holds', () => {
  it('do not keep the payers behind them from being folded, however many they are', async () => {
    const stuck = Array.from({ length: 2_100 }, (_, index) => `stuck ${index}`);
    await fixture.rows('insert into kilocode_users (id) select unnest($1::text[])', [stuck]);
    const later = await fixture.addUser();
    const before = ledger.backlog.depth;
    const results = await ledger.recordUsageBatch(
      stuck.map((kilo_user_id) => ({ kilo_user_id, cost: 1, created_at: AT })),
    );
    expect(results.every(({ status }) => status === 'recorded')).toBe(true);
    await append(later, 2);
    const lock: [string, unknown[]] = [
      'select from kilocode_users where id = any($1) for update',
      [stuck],
    ];
    await beside([lock], async () => {
      expect(await ledger.fold()).toEqual({ drained: 2, remaining: 2_100 });
      expect(await fixture.rows(PERSONAL_DAILY, [later])).toEqual([{ usage_date: DAY, total: 3 }]);
      expect(await ledger.getPendingStatus()).toMatchObject({ depth: 2_100 });
      expect(ledger.backlog.depth).toBe(before + 2_100);
    });
    await fixture.expectExact();
  });
});
