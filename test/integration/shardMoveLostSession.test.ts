import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { setAlert } from '../../src/alerts/alerts.js';
import { setBudget } from '../../src/budgets/budgets.js';
import { releaseExpiredStatement } from '../../src/budgets/keep.sql.js';
import { queryOnPool } from '../../src/db/query.js';
import { Moves } from '../../src/shards/move/moves.js';
import type { MovePoint } from '../../src/shards/move/types.js';
import { checkShards } from '../support/checkShards.js';
import { openPool } from '../support/openPool.js';
import { programPath } from '../support/programs.js';
import { openSessions, type Session } from '../support/sessions.js';
import { foldBudgets } from './budgetHarness.js';
import { ago, expirerOf, setExpiry } from './grantHarness.js';
import {
  addFullPayer,
  createMoveFixture,
  describePayer,
  END_SOURCE,
  idOf,
  type MoveFixture,
  type PayerName,
} from './shardMoveHarness.js';

let fixture: MoveFixture;
beforeAll(async () => {
  fixture = await createMoveFixture();
});
afterAll(() => fixture?.close());

const WORKER = 'test/support/moveWorker.ts';

const shards = () =>
  (['a', 'b'] as const).map((name) => ({ name, pool: fixture[name].database.pool }));

async function expectExact() {
  await fixture.expectExact();
  expect(await checkShards(shards())).toEqual([]);
}

const names = (payer: PayerName) =>
  'kilo_user_id' in payer ? { user: payer.kilo_user_id } : { organization: payer.organization_id };

interface HoldRow {
  id: string;
  kilo_user_id: string;
  api_key_id: string;
}

/** What has no lock of the mover to wait for at the source any more. */
async function changeAtSource(payer: PayerName, hold: HoldRow, grants: readonly string[]) {
  const { a, ledgers } = fixture;
  const ledger = ledgers.a;
  const { pool, budgetFolder: folder } = ledger;
  const pays = { kilo_user_id: hold.kilo_user_id, ...payer };
  const budget = { scope: 'key', id: hold.api_key_id, limit_usd: '9', window: 'month' } as const;
  for (const write of [
    () => ledger.recordUsage({ ...pays, cost: 1 }),
    () => ledger.recordExaUsage({ ...pays, cost: 1, path: '/' }),
    () => ledger.hold({ ...pays, amount: 1 }),
    () => ledger.extend(hold.id, 2_000),
    () => ledger.settle(hold.id, { ...pays, cost: 1 }),
    () => ledger.release(hold.id),
    () => addCredit(pool, { ...payer, usd: 1 }),
    () => setAlert(ledger.alertStore, { kind: 'balance', ...payer, below_usd: '1' }),
  ]) {
    await expect(write(), String(write)).rejects.toMatchObject({ details: { is_elsewhere: true } });
  }
  await expect(setBudget({ pool, folder }, budget)).rejects.toThrow();
  await setExpiry(a, grants, ago(1_000));
  expect(await expirerOf(ledger).expireDue()).toMatchObject({ expired: [] });
  await a.rows('update usage_holds set expires_at = now(), owner = null where id = $1', [hold.id]);
  await queryOnPool(pool, false)(releaseExpiredStatement([], 100));
  await ledger.fold();
  await foldBudgets(ledger, names(payer));
}

/**
 * Of the three sessions of a hand-over the source's alone is ended before home has noted the switch: its
 * locks are gone, and what it took away is back.
 */
describe.each(['user', 'organization'] as const)('a move of a full %s', (scope) => {
  it.each(['read', 'written', 'switched'] as const)(
    'takes along what was read, and nothing twice, where the source is lost when it is %s',
    async (point) => {
      const payer = await addFullPayer(fixture, scope);
      const [hold] = (await fixture.a.rows(
        `select * from usage_holds
         where payer_id = $1 and released_at is null and window_ids <> '{}'`,
        [idOf(payer)],
      )) as [HoldRow];
      const grants = await fixture.a.rows<{ id: string }>(
        `select grant_id as id from credit_expiries where payer_id = $1 and left_microdollars is null`,
        [idOf(payer)],
      );
      expect(grants).toHaveLength(1);
      const before = await describePayer(fixture.a, payer);
      const onPoint = async (at: MovePoint) => {
        if (at !== point) return;
        expect(await fixture.a.rows(END_SOURCE)).toHaveLength(1);
        await changeAtSource(
          payer,
          hold,
          grants.map(({ id }) => id),
        );
      };
      const report = await fixture.moves.move(payer, 'b', { onPoint });
      expect(report).toMatchObject({ finished: true });
      expect(await describePayer(fixture.b, payer)).toEqual(before);
      await expectExact();
    },
  );
});

describe('a mover', () => {
  it('keeps its locks for as long as the target takes', async () => {
    const payer = { kilo_user_id: await fixture.a.addUser() };
    await using sessions = await openSessions(fixture.b.database.url, 1);
    const [holder] = sessions.all as [Session];
    const pools = (['a', 'b'] as const).map((name) => ({
      name,
      pool: openPool({ connectionString: fixture[name].database.url, max: 4 }),
    }));
    const [a, b] = pools as [(typeof pools)[0], (typeof pools)[0]];
    const moves = new Moves({ shards: [a, b], silentMs: 600 });
    const onPoint = async (at: MovePoint) => {
      if (at !== 'read') return;
      await holder.run('begin');
      await holder.run('lock table budgets in access exclusive mode');
      void sleep(2_000).then(() => holder.run('rollback'));
    };
    const report = await moves.move(payer, 'b', { onPoint });
    await Promise.all(pools.map(({ pool }) => pool.end()));
    expect(report).toMatchObject({ finished: true, liftedFences: 0 });
    await expectExact();
  });

  it.each(['read', 'written'] as const)(
    'that is stopped when it is %s frees the payer, and changes nothing when it goes on',
    async (point) => {
      const user = await fixture.a.addUser();
      const payer = { kilo_user_id: user };
      await fixture.ledgers.a.recordUsage({ ...payer, cost: 3 });
      const urls = [fixture.a.database.url, fixture.b.database.url];
      const args = [programPath(WORKER), user, 'b', ...urls, point, '1000'];
      const worker = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'ignore'] });
      const exited = once(worker, 'exit');
      try {
        await new Promise<void>((resolve) => {
          createInterface({ input: worker.stdout }).on('line', (line) => {
            if (line === point) resolve();
          });
        });
        worker.kill('SIGSTOP');
        const locked = 'select from kilocode_users where id = $1 for update nowait';
        await expect(fixture.a.rows(locked, [user])).rejects.toThrow('could not obtain lock');
        await expect
          .poll(() => fixture.sharded.recordUsage({ ...payer, cost: 4 }).catch(() => null), {
            timeout: 15_000,
          })
          .toMatchObject({ status: 'recorded' });
        await expect(fixture.a.rows(locked, [user])).resolves.toHaveLength(1);
        worker.kill('SIGCONT');
        worker.stdin.write('\n');
        expect(await exited).toEqual([1, null]);
      } finally {
        worker.kill('SIGKILL');
      }
      await fixture.expectExact();
      await fixture.moves.resume();
      expect(await fixture.ledgers.b.getUserBalance(user)).toBe(7);
      await expectExact();
    },
  );
});
