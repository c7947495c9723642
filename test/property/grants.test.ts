import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import type { GrantExpirer } from '../../src/accounts/grants/expirer.js';
import { listPayerCredits } from '../../src/accounts/listCredits.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { expirerOf, setExpiry } from '../integration/grantHarness.js';
import { createLedgerFixture, type LedgerFixture } from '../integration/ledgerHarness.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { inForm } from '../support/form.js';
import { GrantModel } from './model/grantModel.js';

/**
 * Random grants, usage, refunds, late usage, holds and expiries of one payer against a model that keeps
 * every microdollar as a coin with an owner. Time is the test's own: a minute a step, in the past.
 */
type Command =
  | { do: 'grant'; amount: number; rank: number | null; priority: number }
  | { do: 'takeBack'; amount: number }
  | { do: 'use'; amount: number }
  | { do: 'refund'; amount: number }
  | { do: 'lateUse'; amount: number; which: number }
  | { do: 'hold'; amount: number }
  | { do: 'settle'; which: number; part: number }
  | { do: 'release'; which: number }
  | { do: 'expire'; usedMeanwhile: number }
  | { do: 'look' }
  | { do: 'fold' };

const amount = fc.integer({ min: 1, max: 60 });
const which = fc.nat(9);
const just = <Name extends string>(name: Name) => fc.constant(name);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: just('grant'),
      amount: fc.integer({ min: 1, max: 120 }),
      rank: fc.option(fc.nat(3)),
      priority: fc.integer({ min: -1, max: 1 }),
    }),
  },
  fc.record({ do: just('takeBack'), amount }),
  { weight: 4, arbitrary: fc.record({ do: just('use'), amount }) },
  { weight: 2, arbitrary: fc.record({ do: just('refund'), amount }) },
  { weight: 2, arbitrary: fc.record({ do: just('lateUse'), amount, which }) },
  { weight: 2, arbitrary: fc.record({ do: just('hold'), amount }) },
  { weight: 2, arbitrary: fc.record({ do: just('settle'), which, part: fc.nat(100) }) },
  fc.record({ do: just('release'), which }),
  {
    weight: 3,
    arbitrary: fc.record({ do: just('expire'), usedMeanwhile: fc.integer({ min: 0, max: 20 }) }),
  },
  fc.record({ do: just('look') }),
  fc.record({ do: just('fold') }),
);

const MINUTE = 60_000;
const FUTURE = Date.parse('2999-01-01T00:00:00Z');

let fixture: LedgerFixture;
let ledger: Ledger;
let expirer: GrantExpirer;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  expirer = expirerOf(ledger);
});

afterAll(() => fixture.close());

const iso = (ms: number) => new Date(ms).toISOString();

class Run {
  readonly model = new GrantModel();
  readonly #user: string;
  #now = Date.now() - 12 * 60 * MINUTE;

  constructor(user: string) {
    this.#user = user;
  }

  async step(command: Command): Promise<void> {
    this.#now += MINUTE;
    const { model } = this;
    const holds = [...model.holds.keys()];
    const id = 'which' in command ? holds[command.which % Math.max(1, holds.length)] : undefined;
    switch (command.do) {
      case 'grant': {
        const expiresAt = command.rank === null ? null : FUTURE + command.rank * MINUTE;
        const made = await addCredit(ledger.pool, {
          kilo_user_id: this.#user,
          usd: command.amount / 1e6,
          expires_at: expiresAt === null ? null : iso(expiresAt),
          priority: command.priority,
        });
        model.grant(made.id, command.amount, expiresAt, command.priority);
        return;
      }
      case 'takeBack':
        await addCredit(ledger.pool, { kilo_user_id: this.#user, usd: -command.amount / 1e6 });
        model.takeBack(command.amount);
        return;
      case 'use':
        return await this.#use(command.amount, this.#now);
      case 'refund':
        return await this.#use(-command.amount, this.#now);
      case 'lateUse': {
        const times = model.expiryTimes();
        const at = times[command.which % Math.max(1, times.length)] ?? this.#now + 1;
        return await this.#use(command.amount, at - 1);
      }
      case 'hold': {
        const hold = await ledger.hold({ kilo_user_id: this.#user, amount: command.amount });
        if (hold.status !== 'granted') return;
        await fixture.rows('update usage_holds set created_at = $2 where id = $1', [
          hold.id,
          iso(this.#now),
        ]);
        model.holds.set(hold.id, { amount: command.amount, at: this.#now });
        return;
      }
      case 'settle': {
        const hold = model.holds.get(id ?? '');
        if (id === undefined || !hold) return;
        const cost = Math.floor((hold.amount * command.part) / 100);
        const event = { kilo_user_id: this.#user, cost, created_at: iso(hold.at) };
        await ledger.settle(id, event);
        model.holds.delete(id);
        model.use(cost, hold.at);
        return;
      }
      case 'release':
        if (id === undefined) return;
        await ledger.release(id);
        model.holds.delete(id);
        return;
      case 'expire': {
        const expiring = model.soonest();
        if (expiring.length === 0) return;
        await setExpiry(fixture, expiring, new Date(this.#now));
        model.setExpiry(expiring, this.#now);
        if (command.usedMeanwhile > 0) await this.#use(command.usedMeanwhile, this.#now);
        return await this.#look();
      }
      case 'look':
        return await this.#look();
      case 'fold':
        await ledger.fold();
    }
  }

  async #use(cost: number, at: number): Promise<void> {
    await ledger.recordUsage({ kilo_user_id: this.#user, cost, created_at: iso(at) });
    this.model.use(cost, at);
  }

  async #look(): Promise<void> {
    expect(await expirer.expirePayer(USER_SCOPE, this.#user)).not.toBe('busy');
    this.model.look(this.#now);
    await this.compare();
  }

  /** What is left, used and expired of each grant, and what was acquired. */
  async compare(): Promise<void> {
    const { rows } = await listPayerCredits(ledger.pool, { kilo_user_id: this.#user });
    const listed = rows.flatMap(({ id, grant }) =>
      grant === null ? [] : [{ id, ...this.#amounts(grant) }],
    );
    const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
    expect(listed.sort(byId)).toEqual(this.model.grants().sort(byId));
    const [user] = await fixture.rows<{ acquired: string }>(
      'select total_microdollars_acquired as acquired from kilocode_users where id = $1',
      [this.#user],
    );
    expect(Number(user?.acquired)).toBe(this.model.acquired);
  }

  #amounts(grant: {
    left_microdollars: unknown;
    used_microdollars: unknown;
    expired_microdollars: unknown;
  }) {
    return {
      left: Number(grant.left_microdollars),
      used: Number(grant.used_microdollars),
      expired: Number(grant.expired_microdollars),
    };
  }
}

it('uses, refunds and expires grants as the model does, and the invariants hold', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 8, maxLength: 30 }), async (program) => {
      const run = new Run(await fixture.addUser());
      for (const each of program) await run.step(each);
      await run.compare();
      expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    }),
    { numRuns: Number(process.env.GRANT_PROGRAMS ?? inForm(6, 15)) },
  );
});
