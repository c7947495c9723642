import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { UsageEvent } from '../../src/record/types.js';
import { openPool } from '../support/openPool.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * I11: a soft delete that says it is final is final. A write that began before the mark waits for its
 * twin, so it has an old snapshot and no transaction id yet; it goes on after the barrier of ids
 * was passed, and stops once more before its metadata.
 */
const GATE = 4712;
const METADATA = { machine_id: 'of one person', user_prompt_prefix: 'dear diary' };

let fixture: LedgerFixture;
let sessions: Sessions;
let twin: Session;
let keeper: Session;
let hostPool: pg.Pool;

beforeEach(async () => {
  fixture = await createLedgerFixture({ ownServer: true });
  sessions = await openSessions(fixture.database.url, 2);
  [twin, keeper] = sessions.all as [Session, Session];
  hostPool = openPool({ connectionString: fixture.database.url, max: 3 });
  await fixture.rows(`
    create function wait_at_gate() returns trigger language plpgsql as $$
    begin
      perform pg_advisory_xact_lock_shared(${GATE});
      return new;
    end
    $$;
    create trigger gate before insert on microdollar_usage_metadata
      for each row execute function wait_at_gate()`);
});
afterEach(async () => {
  await sessions.close();
  await hostPool.end();
  await fixture.close();
});

const untilWaiting = async (what: string) => {
  const text = `
    select from pg_stat_activity as a
    where a.query like $1 and cardinality(pg_blocking_pids(a.pid)) > 0`;
  while ((await fixture.rows(text, [what])).length === 0) await sleep(5);
};

const WAYS: [name: string, write: (event: UsageEvent) => Promise<unknown>][] = [
  [
    "a host's pool",
    ({ metadata, ...core }) =>
      insertUsageAndMetadataWithBalanceUpdate(hostPool, core, metadata ?? null),
  ],
  ['a ledger', async (event) => (await fixture.open({ lockTimeoutMs: 20_000 })).recordUsage(event)],
];

describe('a soft delete beside a write that waits for its twin', () => {
  // A free request moves no counter: it has no position, so no transaction id while it waits.
  const cases = WAYS.flatMap(([name, write]) => [1, 0].map((cost) => ({ name, write, cost })));

  it.each(cases)(
    'through $name is final only when nothing personal can come any more: cost $cost',
    async ({ write, cost }) => {
      const [gone, other] = [await fixture.addUser('gone'), await fixture.addUser('other')];
      const id = randomUUID();
      await keeper.run('begin');
      await keeper.run(`select pg_advisory_xact_lock(${GATE})`);
      await twin.run('begin');
      await twin.run('insert into microdollar_usage (id, kilo_user_id, cost) values ($1, $2, 1)', [
        id,
        other,
      ]);
      const writing = write({ id, kilo_user_id: gone, cost, metadata: METADATA }).then(
        () => 'recorded',
        () => 'refused',
      );
      await untilWaiting('/* microdollar.append%');
      const deleting = softDeleteUser(fixture.database.pool, gone);
      const isMarked = 'select from kilocode_users where id = $1 and deleted_at is not null';
      while ((await fixture.rows(isMarked, [gone])).length === 0) await sleep(5);
      // No sleep of luck: the barrier is set when this statement of its is seen, or has passed.
      const hasBarrier = `select from kilocode_users where id = $1 and scrub_after_xid < '10000000'::xid8`;
      while ((await fixture.rows(hasBarrier, [gone])).length === 0) await sleep(5);
      await twin.run('rollback');
      const { isFinal } = await deleting;
      await keeper.run('commit');
      await writing;
      const [left] = await fixture.rows<{ personal: number }>(
        `select count(*)::integer as personal from microdollar_usage_metadata
       where kilo_user_id = $1 and (machine_id is not null or user_prompt_prefix is not null)`,
        [gone],
      );
      if (isFinal) expect(left?.personal).toBe(0);
    },
  );
});
