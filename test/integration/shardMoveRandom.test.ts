import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { inForm } from '../support/form.js';
import { foldBudgets } from './budgetHarness.js';
import {
  addFullPayer,
  createMoveFixture,
  describePayer,
  idOf,
  type MoveFixture,
  type PayerName,
} from './shardMoveHarness.js';

let fixture: MoveFixture;

beforeAll(async () => {
  fixture = await createMoveFixture();
});

afterAll(() => fixture.close());

/** What may happen to a payer between two moves. Amounts in microdollars. */
const step = fc.oneof(
  fc.record({
    kind: fc.constant('use' as const),
    cost: fc.integer({ min: -500, max: 5_000 }),
    hoursAgo: fc.integer({ min: 0, max: 60 * 24 }),
    isFolded: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('exa' as const),
    cost: fc.integer({ min: 0, max: 4_000_000 }),
    hoursAgo: fc.integer({ min: 0, max: 60 * 24 }),
  }),
  fc.record({ kind: fc.constant('credit' as const), usd: fc.integer({ min: 1, max: 3 }) }),
  fc.record({
    kind: fc.constant('hold' as const),
    amount: fc.integer({ min: 0, max: 3_000 }),
    end: fc.constantFrom('settle', 'release', 'keep'),
  }),
  fc.constant({ kind: 'fold' as const }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const instant = (hoursAgo: number) => new Date(Date.now() - hoursAgo * 3_600_000);

async function take(payer: PayerName, user: string, taken: Step): Promise<void> {
  const { sharded } = fixture;
  const pays = { kilo_user_id: user, ...payer };
  if (taken.kind === 'use') {
    await sharded.recordUsage({
      ...pays,
      cost: taken.cost,
      model: `m${taken.cost % 3}`,
      created_at: instant(taken.hoursAgo),
      metadata: { feature: `f${taken.cost % 2}` },
    });
  } else if (taken.kind === 'exa') {
    const created_at = instant(taken.hoursAgo);
    await sharded.recordExaUsage({ ...pays, cost: taken.cost, path: '/search', created_at });
  } else if (taken.kind === 'credit') {
    await sharded.at(payer, (ledger) => addCredit(ledger.pool, { ...payer, usd: taken.usd }));
  } else if (taken.kind === 'hold') {
    const hold = await sharded.hold({ id: randomUUID(), ...pays, amount: taken.amount });
    if (hold.status !== 'granted' || taken.end === 'keep') return;
    if (taken.end === 'release') await sharded.release(hold.id);
    else await sharded.settle(hold.id, { ...pays, cost: Math.floor(taken.amount / 2) });
  } else {
    await sharded.fold();
  }
}

async function describeHere(payer: PayerName, name: 'a' | 'b') {
  const id = idOf(payer);
  await foldBudgets(
    fixture.ledgers[name],
    'kilo_user_id' in payer ? { user: id } : { organization: id },
  );
  return await describePayer(fixture[name], payer);
}

describe.each(['user', 'organization'] as const)('random lives of a full %s', (scope) => {
  it('are the same on either shard, wherever it moves between', async () => {
    const payer = await addFullPayer(fixture, scope);
    const user =
      'kilo_user_id' in payer
        ? payer.kilo_user_id
        : ((
            await fixture.a.rows<{ id: string }>(
              'select kilo_user_id as id from organization_memberships where organization_id = $1',
              [idOf(payer)],
            )
          )[0]?.id ?? '');
    let at: 'a' | 'b' = 'a';
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 6 }), async (steps) => {
        for (const each of steps) await take(payer, user, each);
        const before = await describeHere(payer, at);
        at = at === 'a' ? 'b' : 'a';
        await fixture.moves.move(payer, at, { pageRows: 5 });
        expect(await describeHere(payer, at)).toEqual(before);
        await fixture.expectExact();
      }),
      { numRuns: inForm(2, 4), endOnFailure: true },
    );
  });
});
