import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { STATE_TABLES } from '../../src/shards/move/payerTables.js';
import {
  addFullPayer,
  createMoveFixture,
  describePayer,
  idOf,
  type MoveFixture,
  tablesNaming,
} from './shardMoveHarness.js';

let fixture: MoveFixture;

beforeAll(async () => {
  fixture = await createMoveFixture();
});

afterAll(() => fixture.close());

const directory = () =>
  fixture.a.rows('select shard, moving_to, moved_from, step from microdollar_shard_directory');

describe.each(['user', 'organization'] as const)('a move of a full %s', (scope) => {
  it('takes everything along, leaves nothing behind, and goes back', async () => {
    const { a, b, moves } = fixture;
    const payer = await addFullPayer(fixture, scope);
    await fixture.expectExact();
    const before = await describePayer(a, payer);
    for (const { name } of STATE_TABLES) {
      if (name === 'organization_memberships' && scope === 'user') continue;
      expect(before[name === 'headroom' ? 'slots' : name], name).not.toEqual([]);
    }

    const report = await moves.move(payer, 'b', { pageRows: 4 });
    expect(report).toMatchObject({ from: 'a', to: 'b', finished: true, liftedFences: 0 });
    expect(await describePayer(b, payer)).toEqual(before);
    await fixture.expectExact();
    expect(await tablesNaming(a, payer)).toEqual([
      scope === 'user' ? 'kilocode_users' : 'organizations',
      'microdollar_shard_directory',
    ].sort());
    expect(await directory()).toEqual([
      { shard: 'b', moving_to: null, moved_from: null, step: null },
    ]);
    await b.expectExact();
    expect(await describePayer(b, payer)).toEqual(before);

    await moves.move(payer, 'a');
    expect(await describePayer(a, payer)).toEqual(before);
    await fixture.expectExact();
    expect(await directory()).toEqual([]);
    expect(idOf(payer)).not.toBe('');
  });
});
