import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * Deliveries of one id with other costs, through one process: whichever was called first is recorded, also
 * where statements meet locks of others and their events wait aside.
 */
const PAIRS = 20;

let fixture: LedgerFixture;
let sessions: Sessions;
let holder: Session;
let user: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  sessions = await openSessions(fixture.database.url, 1);
  holder = sessions.all[0] as Session;
  user = await fixture.addUser();
});

afterAll(async () => {
  await sessions.close();
  await fixture.close();
});

const newIds = (count: number) => Array.from({ length: count }, () => randomUUID());
const withCost = (cost: number) => (id: string) => ({ id, kilo_user_id: user, cost });

/** In a transaction that stays open. */
async function hold(ids: readonly string[]): Promise<void> {
  await holder.run('begin');
  for (const each of ids.map(withCost(9))) {
    await insertUsageAndMetadataWithBalanceUpdate(holder.client, each);
  }
}

/** Each delivery's status, or the code of its error. */
const sendWith = (ledger: Ledger) => (event: ReturnType<ReturnType<typeof withCost>>) =>
  ledger.recordUsage(event, { balance: false }).then(
    ({ status }) => status,
    ({ code }: { code: string }) => code,
  );

/** Of ids that were delivered with a cost of 1 and then with 2. */
async function expectFirstCounts(ids: readonly string[]): Promise<void> {
  const rows = await fixture.rows<{ cost: string }>(
    'select distinct cost from microdollar_usage where id = any($1)',
    [ids],
  );
  expect(rows).toEqual([{ cost: '1' }]);
}

const ANSWERS = ['recorded', 'idempotency_conflict'];

describe('the first of two deliveries is recorded', () => {
  it.each([
    ['in one call, beside an id that is held', 1, 0],
    ['in one call, beside more than there are parts', 40, 0],
    ['the second while the first is aside', 40, 60],
  ])('%s', async (_, held, pauseMs) => {
    const ledger = await fixture.open({ lockTimeoutMs: 600_000 });
    const send = sendWith(ledger);
    await send(withCost(0)(randomUUID()));
    const [others, ids] = [newIds(held), newIds(PAIRS)];
    await hold(others);
    const waiting = others.map(withCost(1)).map(send);
    const firsts = ids.map(withCost(1)).map(send);
    await sleep(pauseMs);
    const seconds = ids.map(withCost(2)).map(send);
    const answers = await Promise.all([Promise.all(firsts), Promise.all(seconds)]);
    await holder.run('rollback');
    await Promise.all(waiting);
    expect(answers).toEqual(ANSWERS.map((answer) => Array(PAIRS).fill(answer)));
    await expectFirstCounts(ids);
  });

  it('where it is held itself, and its holder gives up', async () => {
    const send = sendWith(await fixture.open({ lockTimeoutMs: 600_000 }));
    const ids = newIds(10);
    for (const [round, id] of ids.entries()) {
      await hold([id]);
      const both = [1, 2].map((cost) => send(withCost(cost)(id)));
      await sleep(10 + 8 * round);
      await holder.run('rollback');
      expect(await Promise.all(both)).toEqual(ANSWERS);
    }
    await expectFirstCounts(ids);
  });
});

it('copies wait together, not one after the other, for what does not end', async () => {
  const send = sendWith(await fixture.open({ lockTimeoutMs: 500 }));
  await send(withCost(0)(randomUUID()));
  await holder.run('begin');
  await holder.run('lock table microdollar_usage in exclusive mode');
  const id = randomUUID();
  const answered: string[] = [];
  const calls = [id, id, id, id, randomUUID()].map(async (each) => {
    const code = await send(withCost(1)(each));
    answered.push(each === id ? 'copy' : 'other');
    return code;
  });
  const codes = await Promise.all(calls);
  await holder.run('rollback');
  expect(codes).toEqual(Array(5).fill('unavailable'));
  expect(answered.at(-1)).toBe('other');
});
