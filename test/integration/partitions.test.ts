import { v7 } from 'uuid';
import { afterEach, describe, expect, it } from 'vitest';
import { readPartitionState } from '../../src/db/migrate/partitions/state.js';
import type { TableShape } from '../../src/db/migrate/shape.js';
import { migrate, planMigration } from '../../src/db/migrate.js';
import { readDatabase } from '../support/describeDatabase.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

let fixture: LedgerFixture;

afterEach(() => fixture.close());

describe('partitioning', () => {
  it('works', async () => {
    fixture = await createLedgerFixture();
    const before = await readDatabase(fixture.database.url);
    const ledger = await fixture.open();
    const user = await fixture.addUser();
    await ledger.recordUsage({ kilo_user_id: user, cost: 5 });
    const plan = await planMigration(fixture.database.url, { partitionById: true });
    console.log(
      plan.problems,
      plan.steps.map((s) => `${s.kind} ${s.subject}`),
    );
    const said: string[] = [];
    console.log(
      await migrate(fixture.database.url, { partitionById: true, log: (m) => said.push(m) }),
      said,
    );
    console.log(await readPartitionState(fixture.database.pool));
    const after = await readDatabase(fixture.database.url);
    await ledger.recordUsage({ kilo_user_id: user, cost: 6 });
    await ledger.recordUsage({
      id: v7({ msecs: Date.now() + 40 * 86_400_000 }),
      kilo_user_id: user,
      cost: 7,
    });
    await fixture.expectExact();
    expect(
      await fixture.rows(`select tableoid::regclass::text as t, cost::integer
        from microdollar_usage order by cost`),
    ).toEqual([
      { t: 'microdollar_usage_default', cost: 5 },
      { t: 'microdollar_usage_default', cost: 6 },
      { t: 'microdollar_usage_2027_01', cost: 7 },
    ]);
    const same = (table: TableShape) =>
      table.name === 'microdollar_usage' ? { ...table, kind: 'r' } : table;
    expect({ ...after, tables: after.tables.map(same) }).toEqual(before);
  });
});
