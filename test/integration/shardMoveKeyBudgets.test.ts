import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { setBudget } from '../../src/budgets/budgets.js';
import { releaseExpiredStatement } from '../../src/budgets/keep.sql.js';
import { queryOnPool } from '../../src/db/query.js';
import { LedgerError } from '../../src/errors.js';
import type { MovePoint } from '../../src/shards/move/types.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { acquire, foldBudgets, windowsOf } from './budgetHarness.js';
import { createMoveFixture, END_SOURCE, type MoveFixture } from './shardMoveHarness.js';

/** One payer holds by a key that another limits, and one of them moves. */
let fixture: MoveFixture;
let user: string;
let organization: string;
let key: string;

beforeAll(async () => {
  fixture = await createMoveFixture();
});
beforeEach(async () => {
  const { a, ledgers } = fixture;
  user = await a.addUser();
  organization = await a.addOrganization();
  await acquire(a, { user }, 10_000);
  await acquire(a, { organization }, 10_000);
  await addOrganizationMember(ledgers.a.pool, organization, user);
  key = (await createApiKey(ledgers.a.pool, { kilo_user_id: user, scopes: ['gateway'] })).id;
  await setBudget(
    { pool: ledgers.a.pool, folder: ledgers.a.budgetFolder },
    { scope: 'key', id: key, limit_usd: '0.0001', window: 'month' },
  );
});
afterEach(() => expectExact());
afterAll(() => fixture.close());

/** What another payer spent of a key's window is told by its usage, which is on the shard of that payer. */
async function expectExact() {
  for (const { database } of [fixture.a, fixture.b]) {
    const found = await checkInvariants(database.pool);
    expect(
      found.filter((line) => !/of key budget .*: spent .*, but usage says/.test(line)),
    ).toEqual([]);
  }
}

const paid = () => ({ kilo_user_id: user, organization_id: organization, api_key_id: key });
const hold = (amount: number) => fixture.ledgers.a.hold({ ...paid(), amount });
const personal = (amount: number) =>
  fixture.sharded.hold({ kilo_user_id: user, api_key_id: key, amount });

/** Of the key, after a fold, on the shard of its payer. */
async function ofKey(name: 'a' | 'b') {
  await foldBudgets(fixture.ledgers[name], { user });
  return (await windowsOf(fixture[name], user)).find(({ scope }) => scope === 'key');
}

const killAt = (point: MovePoint) => ({
  onPoint: (at: MovePoint) => {
    if (at === point) throw new LedgerError('unavailable', point);
  },
});

/** The source's session alone is lost, and what had to wait for it is done there. */
async function loseSource(payer: object) {
  const [id] = Object.values(payer);
  expect(await fixture.a.rows(END_SOURCE)).toHaveLength(1);
  await fixture.a.rows(
    'update usage_holds set expires_at = now(), owner = null where payer_id = $1',
    [id],
  );
  await queryOnPool(fixture.ledgers.a.pool, false)(releaseExpiredStatement([], 100));
  await foldBudgets(fixture.ledgers.a, { organization });
  await foldBudgets(fixture.ledgers.a, { user });
}

describe.each(['written', 'switched', 'handed_over', 'lost', null] as const)(
  'a move that is killed at %s, and goes on,',
  (point) => {
    const move = async (payer: { kilo_user_id: string } | { organization_id: string }) => {
      if (point === null) return await fixture.moves.move(payer, 'b');
      if (point === 'lost') {
        const onPoint = (at: MovePoint) => (at === 'written' ? loseSource(payer) : undefined);
        return await fixture.moves.move(payer, 'b', { onPoint });
      }
      await expect(fixture.moves.move(payer, 'b', killAt(point))).rejects.toThrow(point);
      await expectExact();
      await fixture.moves.resume();
    };

    it('of who holds gives back what the key of another has lent', async () => {
      const used = await hold(30);
      await fixture.ledgers.a.settle(used.id, { ...paid(), cost: 20 });
      await hold(40);
      await move({ organization_id: organization });
      expect(await ofKey('a')).toMatchObject({ limit: 100, spent: 20, slots: 80, held: 0 });
      expect(await personal(80)).toMatchObject({ status: 'granted' });
      expect(await personal(1)).toMatchObject({ status: 'refused' });
      // What is paid there is bound by the organization's own budgets.
      const held = await fixture.b.rows(
        'select amount_microdollars::int as amount from usage_holds',
      );
      expect(held).toContainEqual({ amount: 40 });
    });

    it('of whose key it is takes along what others have used, and have not', async () => {
      const used = await hold(30);
      const open = await hold(40);
      await fixture.ledgers.a.settle(used.id, { ...paid(), cost: 20 });
      await move({ kilo_user_id: user });
      expect(await ofKey('b')).toMatchObject({ limit: 100, spent: 20, slots: 80, held: 0 });
      expect(await personal(80)).toMatchObject({ status: 'granted' });
      expect(await personal(1)).toMatchObject({ status: 'refused' });
      // The hold is the organization's as before.
      expect(await fixture.ledgers.a.extend(open.id, 50)).toMatchObject({ status: 'granted' });
      await fixture.ledgers.a.settle(open.id, { ...paid(), cost: 50 });
      await foldBudgets(fixture.ledgers.a, { organization });
      const [balance] = await windowsOf(fixture.a, organization);
      expect(balance).toMatchObject({ spent: 70, slots: 9_930, held: 0 });
    });
  },
);
