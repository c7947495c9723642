import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { foldBudgetsStatement } from '../../src/budgets/fold.sql.js';
import { lockBudgetsStatement, openWindowsStatement } from '../../src/budgets/openWindows.sql.js';
import type { Statement } from '../../src/db/statement.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { SLOTS } from '../../src/schema/budgets.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import type { Session } from '../support/sessions.js';
import {
  acquire,
  addBudget,
  expectWhole,
  foldBudgets,
  newHold,
  windowsOf,
} from './budgetHarness.js';
import { Steps, USAGE_KINDS } from './settleHarness.js';

/** What others commit between the snapshot of a fold of budgets and its locks of slots and holds. */
let steps: Steps;
let ledger: Ledger;

beforeAll(async () => {
  steps = await Steps.open();
  ledger = await steps.fixture.open();
});
afterEach(() => steps.reset());
afterAll(() => steps[Symbol.asyncDispose]());

const run = (by: Session, { text, values }: Statement) => by.run(text, values as unknown[]);

interface Holds {
  user: string;
  /** Of 100 each: settled with 60 before, released before, and open. */
  settled: string;
  released: string;
  open: string;
}

/** What the step spends beside, and how much it still holds then. */
const MEANWHILE: [name: string, spent: number, held: number, step: (of: Holds) => unknown][] = [
  ['nothing', 0, 100, () => {}],
  ['a settle', 30, 0, ({ open, user }) => ledger.settle(open, { kilo_user_id: user, cost: 30 })],
  ['a release', 0, 0, ({ open }) => ledger.release(open)],
  [
    'late usage of the released one',
    45,
    100,
    ({ released, user }) => ledger.recordUsage({ id: released, kilo_user_id: user, cost: 45 }),
  ],
  ['an extension', 0, 250, ({ open }) => ledger.extend(open, 250)],
  [
    'holds from every slot',
    0,
    180,
    async ({ user }) => {
      for (let n = 0; n < 8; n++) await ledger.hold(newHold(user, 10));
    },
  ],
  [
    'usage, settled by another fold',
    7,
    100,
    async ({ user }) => {
      await ledger.recordUsage({ kilo_user_id: user, cost: 7 });
      await ledger.fold();
    },
  ],
  [
    'a top-up',
    0,
    100,
    ({ user }) => addCredit(steps.fixture.database.pool, { kilo_user_id: user, usd: '0.001' }),
  ],
  [
    'a lower limit',
    0,
    100,
    ({ user }) =>
      steps.fixture.rows(
        'update budgets set limit_microdollars = 400 where payer_id = $1 and not is_balance',
        [user],
      ),
  ],
  [
    'a budget that is new',
    0,
    100,
    ({ user }) =>
      addBudget(steps.fixture, {
        scope: 'project',
        payer: { user },
        limit: 900,
        project: 'x',
        period: 'total',
      }),
  ],
  [
    'a removed budget',
    0,
    100,
    ({ user }) =>
      steps.fixture.rows(
        'update budgets set removed_at = now() where payer_id = $1 and not is_balance',
        [user],
      ),
  ],
];

describe('a fold of budgets', () => {
  it.each(MEANWHILE)('beside %s', async (_, spent, held, meanwhile) => {
    const [kind] = USAGE_KINDS;
    if (!kind) throw new Error('no kind');
    const { f } = steps.sessions;
    const { user } = await steps.account(kind);
    await acquire(steps.fixture, { user }, 2_000);
    await addBudget(steps.fixture, {
      scope: 'user',
      payer: { user },
      limit: 1_000,
      period: 'total',
    });
    const ids = [];
    for (let n = 0; n < 3; n++) ids.push((await ledger.hold(newHold(user, 100))).id);
    const [settled = '', released = '', open = ''] = ids;
    await ledger.settle(settled, { kilo_user_id: user, cost: 60 });
    await ledger.release(released);
    await f.run('begin');
    await run(f, lockBudgetsStatement(USER_SCOPE, user));
    await run(f, openWindowsStatement(USER_SCOPE, user));
    const limits = { rows: 1_000, slots: SLOTS, asked: 0 };
    await steps.betweenSnapshotAndLocks(
      f,
      () => run(f, foldBudgetsStatement(USER_SCOPE, user, limits)),
      async () => {
        await meanwhile({ user, settled, released, open });
        await expectWhole(steps.fixture);
      },
    );
    await f.run('commit');
    await expectWhole(steps.fixture);
    await foldBudgets(ledger, { user });
    await expectWhole(steps.fixture);
    const [balance] = await windowsOf(steps.fixture, user);
    expect(balance).toMatchObject({ spent: 60 + spent, held });
  });
});
