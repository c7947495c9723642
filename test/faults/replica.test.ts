import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { migrate } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { ClientBook, type SentEvent } from './support/clientBook.js';
import { type Cluster, startCluster } from './support/cluster.js';
import { createRandom } from './support/scale.js';
import { type Standby, startStandby } from './support/standby.js';
import { createAccounts, startTraffic, untilMoreAnswers } from './support/traffic.js';
import { expectNothingLost } from './support/verdict.js';
import { throughLibrary } from './support/ways.js';

let primary: Cluster;
let standby: Standby;

async function startPair() {
  primary = await startCluster();
  standby = await startStandby(primary, 'standby_a');
}

async function stopPair() {
  await standby?.stop();
  await primary?.stop();
}

const instantOf = async ({ pool }: Cluster): Promise<number> =>
  (await pool.query('select clock_timestamp() as now')).rows[0].now.getTime();

async function record(ledger: Ledger, book: ClientBook, kiloUserId: string, count: number) {
  const events = Array.from(
    { length: count },
    (): SentEvent => ({
      kind: 'usage',
      id: randomUUID(),
      kilo_user_id: kiloUserId,
      organization_id: null,
      cost: 1_000,
      created_at: new Date().toISOString(),
    }),
  );
  await resend(ledger, book, events);
  return events;
}

async function resend(ledger: Ledger, book: ClientBook, events: readonly SentEvent[]) {
  for (const event of events) book.send(event);
  for (const answer of await throughLibrary(() => ledger)(events)) {
    if (answer instanceof Error) throw answer;
    book.acknowledge(answer);
  }
}

describe('a replica, asynchronous', () => {
  /** Of both tests: the pair is the same. */
  const book = new ClientBook();

  beforeAll(startPair);
  afterAll(stopPair);

  it('that lags: answers as of what it has replayed, and says so; bulk work refuses it', async () => {
    const [user = ''] = (await createAccounts(primary.pool)).users;
    const ledger = await createLedger({ databaseUrl: primary.url, replicaUrl: standby.url });
    const today = new Date().toISOString().slice(0, 10);
    const read = async () => {
      const query = { kilo_user_id: user, from: today, until: today };
      const { days, source } = await ledger.getDailyUsageWithSource(query);
      const total = days[0]?.total_cost_microdollars ?? 0;
      return { total, server: source.server, asOfMs: Date.parse(source.asOf) };
    };

    const beforeFirstMs = await instantOf(primary);
    await record(ledger, book, user, 3);
    await standby.untilCaughtUp();
    await standby.pauseReplay();
    const pausedMs = await instantOf(primary);
    await record(ledger, book, user, 4);
    // Time passes; what the replica knows does not get any fresher.
    await sleep(50);
    const stale = await read();
    expect(stale).toMatchObject({ total: 3_000, server: 'replica' });
    expect(stale.asOfMs).toBeGreaterThanOrEqual(beforeFirstMs);
    expect(stale.asOfMs).toBeLessThanOrEqual(pausedMs);
    // Balances are of the primary, whatever the replica does.
    expect(await ledger.getUserBalance(user)).toBe(7_000);

    await standby.resumeReplay();
    await standby.untilCaughtUp();
    const fresh = await read();
    expect(fresh).toMatchObject({ total: 7_000, server: 'replica' });
    expect(fresh.asOfMs).toBeGreaterThanOrEqual(pausedMs);

    const readOnly = { code: 'unavailable', message: expect.stringMatching(/read-only|standby/) };
    const target = { url: standby.url, rollup: DAILY_ROLLUP };
    await expect(runBackfill(target)).rejects.toMatchObject(readOnly);
    await expect(repairRollup(target)).rejects.toMatchObject(readOnly);
    await ledger.close();
    await expectNothingLost(book, primary);
    expect(await verifyRollup(target)).toMatchObject({ driftKeys: 0 });
    await expect(migrate(standby.url)).rejects.toMatchObject(readOnly);
  });

  it('that is promoted: what was lost is missing as a whole, verify cannot see it, resending heals it', async () => {
    const [user = ''] = (await createAccounts(primary.pool)).users;
    const before = await createLedger({ databaseUrl: primary.url });
    const kept = await record(before, book, user, 5);
    await standby.untilCaughtUp();
    await standby.disconnect();
    const lost = await record(before, book, user, 6);
    await primary.kill();
    await standby.promote();
    await before.close();

    // Acknowledged and gone: only who keeps a book of its own can tell.
    expect((await book.missing(standby.pool)).sort()).toEqual(lost.map(({ id }) => id).sort());
    // Rows and effects were lost together (I1): all totals agree, so there is no drift to find.
    expect(await checkInvariants(standby.pool)).toEqual([]);
    const target = { url: standby.url, rollup: DAILY_ROLLUP };
    expect(await verifyRollup(target)).toMatchObject({ driftKeys: 0 });
    expect(await verifyBalances({ url: standby.url })).toMatchObject({ drifts: [] });

    const after = await createLedger({ databaseUrl: standby.url });
    expect(await after.getUserBalance(user)).toBe(kept.length * 1_000);
    await resend(after, book, [...kept, ...lost]);
    await after.close();
    await expectNothingLost(book, standby);
  });
});

describe('a replica, synchronous with remote_apply', () => {
  beforeAll(startPair);
  afterAll(stopPair);

  it('that is promoted under load: nothing is lost', async () => {
    const random = createRandom('promotion');
    const accounts = await createAccounts(primary.pool);
    await primary.pool.query(`alter system set synchronous_standby_names = 'standby_a'`);
    await primary.pool.query(`alter system set synchronous_commit = 'remote_apply'`);
    await primary.pool.query('select pg_reload_conf()');
    const isSync = `select from pg_stat_replication where sync_state = 'sync'`;
    while ((await primary.pool.query(isSync)).rowCount === 0) await sleep(10);
    // It is the checkpointer who makes commits wait; before it does this it reads what was reloaded.
    await primary.pool.query('checkpoint');
    await standby.untilCaughtUp();

    const book = new ClientBook();
    let ledger = await createLedger({ databaseUrl: primary.url });
    const send = throughLibrary(() => ledger);
    const traffic = startTraffic({ book, random, accounts, clients: 10, send, maxBatch: 6 });
    await untilMoreAnswers(book, 200);
    await sleep(random.between(0, 100));
    await primary.kill();
    await standby.promote();
    const old = ledger;
    ledger = await createLedger({ databaseUrl: standby.url });
    await untilMoreAnswers(book, 50);
    await traffic.stop();
    await old.close();
    await ledger.close();
    await expectNothingLost(book, standby);
  });
});
