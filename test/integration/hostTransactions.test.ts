import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { openSessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** Writes in transactions of a host's own: whatever becomes of them, and whoever is beside them. */
let fixture: LedgerFixture;

beforeAll(async () => {
  fixture = await createLedgerFixture();
});
afterAll(() => fixture.close());

const balanceOf = async (user: string) =>
  (
    await fixture.rows<{ used: string }>(
      'select microdollars_used as used from kilocode_user_balances where kilo_user_id = $1',
      [user],
    )
  )[0]?.used;

describe('in a transaction of a host', () => {
  it('two of one id count once, also across a savepoint that is rolled back', async () => {
    const user = await fixture.addUser();
    await using sessions = await openSessions(fixture.database.url, 1);
    const [{ client }] = sessions.all as [(typeof sessions.all)[0]];
    const event = { id: randomUUID(), kilo_user_id: user, cost: 7 };
    const write = (cost: number) =>
      insertUsageAndMetadataWithBalanceUpdate(client, { ...event, cost });
    await client.query('begin');
    await client.query('savepoint one');
    expect(await write(7)).toMatchObject({ status: 'recorded', new_microdollars_used: 7 });
    expect(await write(7)).toMatchObject({ status: 'duplicate', new_microdollars_used: 7 });
    await client.query('rollback to savepoint one');
    // What was rolled back was never recorded: the id is free, for other content too.
    expect(await write(9)).toMatchObject({ status: 'recorded', new_microdollars_used: 9 });
    await expect(write(7)).rejects.toMatchObject({ code: 'idempotency_conflict' });
    await client.query('commit');
    expect(await balanceOf(user)).toBe('9');
    await fixture.expectExact();
  });

  it('that is rolled back after its answer counts for nobody, and its id is free', async () => {
    const user = await fixture.addUser();
    const { pool } = fixture.database;
    const event = { id: randomUUID(), kilo_user_id: user, cost: 7 };
    await using sessions = await openSessions(fixture.database.url, 1);
    const [{ client }] = sessions.all as [(typeof sessions.all)[0]];
    await client.query('begin');
    await insertUsageAndMetadataWithBalanceUpdate(client, event, { editor_name: 'of nobody' });
    await client.query('rollback');
    expect(await balanceOf(user)).toBe('0');
    const again = await insertUsageAndMetadataWithBalanceUpdate(pool, event, {
      editor_name: 'of nobody',
    });
    expect(again).toMatchObject({ status: 'recorded', new_microdollars_used: 7 });
    await fixture.expectExact();
  });

  it('bounds the wait for a correction of the same number as that for a twin', async () => {
    const user = await fixture.addUser();
    await using sessions = await openSessions(fixture.database.url, 2);
    const [a, b] = sessions.all as [(typeof sessions.all)[0], (typeof sessions.all)[0]];
    const adjusts = randomUUID();
    const correct = (client: typeof a.client) =>
      insertUsageAndMetadataWithBalanceUpdate(
        client,
        { kilo_user_id: user, cost: -1 },
        { adjusts_usage_id: adjusts, correction_number: 1 },
      );
    await a.run('begin');
    await correct(a.client);
    await b.run('begin');
    await expect(correct(b.client)).rejects.toMatchObject({
      code: 'unavailable',
      details: { sqlstate: '55P03' },
    });
    await b.run('rollback');
    await a.run('commit');
    await fixture.expectExact();
  });
});
