import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_BY_USER } from '../../src/schema/dimensionRollups.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { ORGANIZATION_SCOPE } from '../../src/schema/unsettled.js';
import { deletedUsersStatement } from '../../src/shards/move/readRows.sql.js';
import { daysAgo } from './archiveHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';
import { createMoveFixture, type MoveFixture } from './shardMoveHarness.js';

type Shard = 'a' | 'b';
let fixture: MoveFixture;
let directory: string;

/** Until the test is over. */
async function open(): Promise<void> {
  fixture = await createMoveFixture();
  onTestFinished(() => fixture.close());
  directory = await mkdtemp(join(tmpdir(), 'microdollar-move-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
}

async function archive(shard: Shard): Promise<void> {
  const { url } = fixture[shard].database;
  await fixture.ledgers[shard].fold();
  await verifyRollup({ url, rollup: DAILY_ROLLUP });
  const report = await archiveUsage({ url, until: daysAgo(9), directory: join(directory, shard) });
  expect(report).toMatchObject({ days: 1, failures: [] });
}

/** As a migration leaves a rollup where there is usage. */
async function bring({ rows }: LedgerFixture): Promise<void> {
  const { name } = DAILY_BY_USER;
  await rows(`delete from ${name}`);
  for (const table of ['rollup_marks', 'rollup_starts', 'rollup_coverage']) {
    await rows(`delete from ${table} where rollup = $1`, [name]);
  }
}

it.each([[['a']], [['b']], [['a', 'b']]] as const)(
  'archived usage moves, there and back, where a rollup came to %s later',
  async (later) => {
    await open();
    const [user, other] = [await fixture.a.addUser(), await fixture.b.addUser()];
    const payer = { kilo_user_id: user };
    const created_at = `${daysAgo(12)}T10:00:00Z`;
    for (const cost of [5, 6]) {
      await fixture.ledgers.a.recordUsage({ ...payer, cost, created_at, model: `m${cost}` });
    }
    await fixture.ledgers.b.recordUsage({ kilo_user_id: other, cost: 7, created_at });
    for (const shard of ['a', 'b'] as const) await archive(shard);
    for (const shard of later) await bring(fixture[shard]);
    const range = { from: daysAgo(20), until: daysAgo(0) };
    for (const [index, shard] of (['a', 'b', 'a', 'b'] as const).entries()) {
      if (index > 0) await fixture.moves.move(payer, shard);
      await fixture.ledgers[shard].fold();
      for (const by of [[], ['model' as const]]) {
        const report = await fixture.ledgers[shard].getUsageReport({ ...payer, ...range, by });
        expect(report.total).toMatchObject({ cost_microdollars: 11, requests: 2 });
      }
      await fixture.expectExact();
    }
  },
);

it('users of usage that cost nothing are known to be deleted where a rollup came later', async () => {
  const shard = await createLedgerFixture();
  onTestFinished(() => shard.close());
  const ledger = await shard.open();
  const user = await shard.addUser();
  const organization_id = await shard.addOrganization();
  await ledger.recordUsage({ kilo_user_id: user, organization_id, cost: 0 });
  await ledger.fold();
  await bring(shard);
  await shard.rows('update kilocode_users set deleted_at = now() where id = $1', [user]);
  const { text, values } = deletedUsersStatement(ORGANIZATION_SCOPE, organization_id);
  expect(await shard.rows(text, values)).toEqual([{ id: user }]);
});
