import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { openSessions, type Session } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** I9: what fails behind an answer is never the event's. */
const AT = '2025-05-06T07:08:09Z';

let fixture: LedgerFixture;
const told: { payer?: unknown; task?: unknown }[] = [];

const open = (lockTimeoutMs: number) =>
  fixture.open({
    lockTimeoutMs,
    log: {
      error: (details: object) => void told.push(details),
      warn: () => {},
      info: () => {},
    } as never,
  });

beforeAll(async () => {
  fixture = await createLedgerFixture();
});
afterAll(() => fixture.close());

const recordAll = (ledger: Ledger, users: readonly string[]) =>
  Promise.all(
    users.map((kilo_user_id) => ledger.recordUsage({ kilo_user_id, cost: 1, created_at: AT })),
  );

describe('a table that is locked behind the answers', () => {
  it('is waited for once, not once a payer; then events are recorded, balances not known', async () => {
    const users = await Promise.all(Array.from({ length: 40 }, () => fixture.addUser()));
    const ledger = await open(200);
    await recordAll(ledger, users);
    told.length = 0;
    await using sessions = await openSessions(fixture.database.url, 1);
    const holder = sessions.all[0] as Session;
    await holder.run('begin');
    await holder.run('lock table kilocode_users in access exclusive mode');
    for (const answer of await recordAll(ledger, users)) {
      expect(answer).toMatchObject({ status: 'recorded', new_microdollars_used: null });
    }
    await holder.run('commit');
    for (const answer of await recordAll(ledger, users)) {
      expect(answer).toMatchObject({ status: 'recorded', new_microdollars_used: 3 });
    }
    // Folds and reads travel in a few statements, and each met the lock once.
    const failed = told.filter(({ task }) => task === 'settle');
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.length).toBeLessThan(10);
    await fixture.expectExact();
  });
});
