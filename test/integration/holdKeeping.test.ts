import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertIntentsStatement } from '../../src/gateway/durable/intents.sql.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { count, makeDataDir, newIntent, openGateway, until } from '../support/gateway.js';
import {
  acquire,
  addBudget,
  addPayer,
  expectIdentity,
  expectWhole,
  newHold,
  windowsOf,
} from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});

afterAll(() => fixture.close());

describe('the background', () => {
  it('folds what others left: usage, closed holds, a balance that changed', async () => {
    const used = await addPayer(fixture, 1_000);
    const released = await addPayer(fixture, 1_000);
    const lowered = await addPayer(fixture, 1_000);
    const organization = await fixture.addOrganization();
    await acquire(fixture, { organization }, 500);
    for (const user of [used, released, lowered]) {
      const { id } = await ledger.hold(newHold(user, 100));
      if (user === released)
        await fixture.rows('update usage_holds set released_at = now() where id = $1', [id]);
    }
    await ledger.hold(newHold(used, 10, { organization_id: organization }));
    const other = await fixture.open();
    await other.recordUsage({ kilo_user_id: used, cost: 70 });
    await other.recordUsage({ kilo_user_id: used, organization_id: organization, cost: 30 });
    await acquire(fixture, { user: lowered }, -300);
    await ledger.keepBudgets();
    expect(await windowsOf(fixture, used)).toMatchObject([{ spent: 70, held: 100 }]);
    expect(await windowsOf(fixture, released)).toMatchObject([{ held: 0 }]);
    expect(await windowsOf(fixture, lowered)).toMatchObject([{ limit: 700, held: 100 }]);
    expect(await windowsOf(fixture, organization)).toMatchObject([{ spent: 30, held: 10 }]);
    await expectIdentity(fixture);
  });

  it('does not release what a living process holds, whatever time has passed', async () => {
    const user = await addPayer(fixture, 1_000);
    const other = await fixture.open();
    await other.hold(newHold(user, 100, { expires_in_ms: 1 }));
    await ledger.keepBudgets();
    expect(await windowsOf(fixture, user)).toMatchObject([{ held: 100 }]);
    // The process ends in order: what it holds is nobody's.
    await other.close();
    await ledger.keepBudgets();
    expect(await windowsOf(fixture, user)).toMatchObject([{ held: 0 }]);
  });

  it('releases whatever a process holds when it ends in order, however much that is', async () => {
    const user = await addPayer(fixture, 1_000);
    const other = await fixture.open();
    await Promise.all(Array.from({ length: 520 }, () => other.hold(newHold(user, 1))));
    await other.close();
    const open = 'select from usage_holds where payer_id = $1 and released_at is null';
    expect(await fixture.rows(open, [user])).toEqual([]);
  });

  it('leaves the hold of a request whose process died to its estimate, which has its project', async () => {
    const user = await addPayer(fixture, 100_000);
    await addBudget(fixture, { scope: 'project', payer: { user }, project: 'p', limit: 90_000 });
    const dead = await fixture.open();
    const { id, created_at } = await dead.hold(newHold(user, 5_000, { project_id: 'p' }));
    const owner = randomUUID();
    const intent = newIntent(user, { id });
    await fixture.database.pool.query(insertIntentsStatement([{ owner, intent }]));
    // Its end releases what nobody will bill.
    await dead.close();
    await ledger.keepBudgets();
    expect(await windowsOf(fixture, user)).toMatchObject([{ held: 5_000 }, { held: 5_000 }]);
    const { dataDir, remove } = makeDataDir();
    const price = () => ({ cost: 3_000 });
    const quick = { leaseMs: 600, maintenanceIntervalMs: 20, price };
    const recovering = await openGateway(fixture.database.url, dataDir, quick);
    try {
      await until(async () => (await count(fixture.database.pool, 'gateway_intents')) === 0);
    } finally {
      await recovering.stop();
      remove();
    }
    await ledger.keepBudgets();
    expect(await windowsOf(fixture, user)).toMatchObject([
      { spent: 3_000, held: 0 },
      { spent: 3_000, held: 0 },
    ]);
    const [row] = await fixture.rows<{ at: Date; project_id: string }>(
      'select created_at as at, project_id from microdollar_usage where id = $1',
      [id],
    );
    expect(row).toEqual({ at: new Date(created_at ?? ''), project_id: 'p' });
    await expectWhole(fixture);
  });

  it('forgets a released hold after a day, and no earlier', async () => {
    const user = await addPayer(fixture, 1_000);
    const { id } = await ledger.hold(newHold(user, 100));
    await ledger.release(id);
    await ledger.keepBudgets();
    const count = async () =>
      (await fixture.rows('select from usage_holds where id = $1', [id])).length;
    expect(await count()).toBe(1);
    await fixture.rows(
      `update usage_holds set released_at = now() - interval '25 hours' where id = $1`,
      [id],
    );
    await ledger.keepBudgets();
    expect(await count()).toBe(0);
  });
});
