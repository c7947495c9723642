import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type BudgetStore, changeBudget, setBudget } from '../../src/budgets/budgets.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { acquire, addPayer, expectIdentity, windowsOf } from '../integration/budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from '../integration/ledgerHarness.js';
import { inForm } from '../support/form.js';

/**
 * Random programs against a model that knows no slot, no window and no fold: a hold is granted exactly if
 * it fits what is neither spent nor held of every budget that counts it. I13 after every step.
 */
/** Of the user of the program that runs: whoever pays, its budgets count what it uses. */
let apiKey = '';
const USD = 1_000_000;

type Command =
  | { do: 'hold'; key: boolean; project: boolean; amount: number }
  | { do: 'settle'; which: number; part: number }
  | { do: 'release'; which: number }
  | { do: 'extend'; which: number; by: number }
  | { do: 'use'; key: boolean; amount: number }
  | { do: 'topUp'; amount: number }
  | { do: 'budget'; of: 'key' | 'project' | 'user'; limit: number }
  | { do: 'limit'; which: number; limit: number }
  | { do: 'fold'; isWhole: boolean };

const amount = fc.integer({ min: 0, max: 400 });
const which = fc.nat(20);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('hold' as const),
      key: fc.boolean(),
      project: fc.boolean(),
      amount,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      which,
      part: fc.integer({ min: 0, max: 120 }),
    }),
  },
  fc.record({ do: fc.constant('release' as const), which }),
  fc.record({ do: fc.constant('extend' as const), which, by: amount }),
  fc.record({ do: fc.constant('use' as const), key: fc.boolean(), amount }),
  fc.record({ do: fc.constant('topUp' as const), amount }),
  fc.record({
    do: fc.constant('budget' as const),
    of: fc.constantFrom('key' as const, 'project' as const, 'user' as const),
    limit: fc.integer({ min: 0, max: 1_500 }),
  }),
  fc.record({
    do: fc.constant('limit' as const),
    which,
    limit: fc.integer({ min: 0, max: 1_500 }),
  }),
  fc.record({ do: fc.constant('fold' as const), isWhole: fc.boolean() }),
);

interface Request {
  api_key_id: string | null;
  project_id: string | null;
}

interface ModelBudget {
  id: string | null;
  counts: (request: Request) => boolean;
  limit: number;
}

/** What it would be with one lock around everything. */
class Model {
  readonly budgets = new Map<string, ModelBudget>();
  readonly open = new Map<string, Request & { amount: number }>();
  readonly used: (Request & { amount: number })[] = [];

  constructor(acquired: number) {
    this.budgets.set('balance', { id: null, counts: () => true, limit: acquired });
  }

  left({ counts, limit }: ModelBudget): number {
    const rows = [...this.used, ...this.open.values()];
    return rows.filter(counts).reduce((sum, row) => sum - row.amount, limit);
  }

  leftFor(request: Request): number {
    const counting = [...this.budgets.values()].filter(({ counts }) => counts(request));
    return Math.min(...counting.map((budget) => this.left(budget)));
  }
}

let fixture: LedgerFixture;
let ledger: Ledger;
let store: BudgetStore;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  store = { pool: ledger.pool, folder: ledger.budgetFolder };
});

afterAll(() => fixture.close());

const requestOf = (key: boolean, project: boolean): Request => ({
  api_key_id: key ? apiKey : null,
  project_id: project ? 'p' : null,
});

/** `seen`: what slots still give may be less than is there, or more where usage came without a hold. */
async function step(user: string, model: Model, command: Command): Promise<void> {
  const pick = () => {
    const ids = [...model.open.keys()];
    return 'which' in command ? ids[command.which % Math.max(1, ids.length)] : undefined;
  };
  switch (command.do) {
    case 'hold': {
      const request = requestOf(command.key, command.project);
      const fits = command.amount <= model.leftFor(request);
      const hold = await ledger.hold({
        kilo_user_id: user,
        ...request,
        amount: command.amount,
      });
      expect(hold.status).toBe(fits ? 'granted' : 'refused');
      if (fits) model.open.set(hold.id, { ...request, amount: command.amount });
      else expect(hold.available_microdollars).toBe(Math.max(0, model.leftFor(request)));
      return;
    }
    case 'settle': {
      const id = pick();
      const hold = id === undefined ? undefined : model.open.get(id);
      if (id === undefined || !hold) return;
      const cost = Math.floor((hold.amount * command.part) / 100);
      await ledger.settle(id, { kilo_user_id: user, cost });
      model.open.delete(id);
      model.used.push({ ...hold, amount: cost });
      if (cost > hold.amount) await fold(user);
      return;
    }
    case 'release': {
      const id = pick();
      if (id === undefined) return;
      await ledger.release(id);
      model.open.delete(id);
      return;
    }
    case 'extend': {
      const id = pick();
      const hold = id === undefined ? undefined : model.open.get(id);
      if (id === undefined || !hold || command.by === 0) return;
      const fits = command.by <= model.leftFor(hold);
      const extended = await ledger.extend(id, hold.amount + command.by);
      expect(extended.status).toBe(fits ? 'granted' : 'refused');
      if (fits) hold.amount += command.by;
      return;
    }
    case 'use': {
      const request = requestOf(command.key, false);
      await ledger.recordUsage({ kilo_user_id: user, cost: command.amount, ...request });
      model.used.push({ ...request, amount: command.amount });
      // Nobody held it: it is known to the slots with the next fold.
      await fold(user);
      return;
    }
    case 'topUp':
      await acquire(fixture, { user }, command.amount);
      (model.budgets.get('balance') as ModelBudget).limit += command.amount;
      return;
    case 'budget':
      await setInModel(user, model, command.of, command.limit);
      return;
    case 'limit': {
      const budget = [...model.budgets.values()].filter(({ id }) => id !== null)[
        command.which % Math.max(1, model.budgets.size - 1)
      ];
      if (!budget?.id) return;
      await changeBudget(store, budget.id, { limit_usd: command.limit / USD });
      budget.limit = command.limit;
      return;
    }
    case 'fold':
      if (command.isWhole) await fold(user);
      else await ledger.budgetFolder.foldSome(USER_SCOPE, user);
  }
}

async function fold(user: string): Promise<void> {
  await ledger.budgetFolder.foldFor(USER_SCOPE, user, 0);
}

/** A new one counts the holds that come after it, and all usage of its window. */
async function setInModel(user: string, model: Model, of: string, limit: number): Promise<void> {
  const subject = {
    key: { id: apiKey, counts: (request: Request) => request.api_key_id !== null },
    project: { id: 'p', counts: (request: Request) => request.project_id !== null },
    user: { id: user, counts: () => true },
  }[of as 'key' | 'project' | 'user'];
  const known = model.budgets.get(of);
  // What is open now was not taken from it: settled first, so that the model need not tell.
  if (!known) {
    for (const [id, hold] of model.open) {
      await ledger.settle(id, { kilo_user_id: user, cost: hold.amount });
      model.used.push(hold);
    }
    model.open.clear();
  }
  const budget = await setBudget(store, {
    scope: of,
    id: subject.id,
    limit_usd: limit / USD,
    window: 'month',
    kilo_user_id: of === 'project' ? user : null,
  });
  model.budgets.set(of, { id: budget.id, counts: subject.counts, limit });
}

it('grants exactly what fits, whatever happened before, and I13 holds after every step', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 25 }), async (program) => {
      const user = await addPayer(fixture, 1_000);
      apiKey = randomUUID();
      await fixture.rows(
        `insert into api_keys (id, key_hash, key_prefix, kilo_user_id)
         values ($1::uuid, $1::text, 'k', $2)`,
        [apiKey, user],
      );
      const model = new Model(1_000);
      for (const each of program) {
        await step(user, model, each);
        await expectIdentity(fixture);
      }
      await fold(user);
      await expectIdentity(fixture);
      for (const { limit, spent, carry, slots, held } of await windowsOf(fixture, user)) {
        expect(carry + slots).toBe(limit - spent - held);
      }
    }),
    { numRuns: Number(process.env.HOLD_PROGRAMS ?? inForm(5, 12)) },
  );
});
