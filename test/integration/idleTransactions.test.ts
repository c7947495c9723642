import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { databaseUrl } from '../support/database.js';
import { openSessions, type Session, type Sessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * R3: a session idles in a transaction that has an id, as hosts' do for hours. What others write is
 * settled all the same, so no tail grows; depth and exceptions are counted, nothing is timed.
 */
let fixture: LedgerFixture;
let sessions: Sessions;
let idle: Session;

beforeEach(async () => {
  fixture = await createLedgerFixture({ ownServer: true });
});
afterEach(async () => {
  await sessions.close();
  await fixture.close();
});

interface Payers {
  user: string;
  organization: string;
}

const markOf = async ({ user, organization }: Payers) =>
  await fixture.rows<{ exceptions: number; depth: number }>(
    `select cardinality(u.settled_except) as exceptions,
       (select count(*)::integer from microdollar_usage as m
       where m.kilo_user_id = u.id and m.organization_id is null
         and (m.position >= u.settled_below or m.position = any (u.settled_except))) as depth
     from kilocode_users as u
     where u.id = $1
     union all
     select cardinality(o.settled_except),
       (select count(*)::integer from microdollar_usage as m
       where m.organization_id = o.id
         and (m.position >= o.settled_below or m.position = any (o.settled_except)))
     from organizations as o
     where o.id = $2`,
    [user, organization],
  );

const WHERE: [name: string, url: () => string, begin: readonly string[]][] = [
  ['with an id', () => fixture.database.url, ['begin', 'select txid_current()']],
  [
    'with an id, in another database',
    () => databaseUrl(fixture.database.url, 'postgres'),
    ['begin', 'select txid_current()'],
  ],
  [
    'with a snapshot and an id',
    () => fixture.database.url,
    ['begin isolation level repeatable read', 'select txid_current()'],
  ],
];

describe.each(WHERE)('a session idle in a transaction %s', (_, url, begin) => {
  it('does not keep what others write from being settled', async () => {
    const payers = { user: await fixture.addUser(), organization: await fixture.addOrganization() };
    sessions = await openSessions(url(), 1);
    idle = sessions.all[0] as Session;
    for (const statement of begin) await idle.run(statement);
    const ledger = await fixture.open({ backgroundFold: true, groupCommit: false, poolSize: 8 });
    const write = (cost: number, isOrganization: boolean) =>
      ledger.recordUsage({
        kilo_user_id: payers.user,
        organization_id: isOrganization ? payers.organization : null,
        cost,
      });
    let sum = 0;
    const callers = Array.from({ length: 8 }, async (__, caller) => {
      for (let round = 1; round <= 60; round++) {
        sum += round;
        await write(round, caller % 2 === 0);
      }
    });
    await Promise.all(callers);
    // While it still idles. Who was open for a moment only, at a payer's last settle, is none after its next.
    let marks: Awaited<ReturnType<typeof markOf>>;
    do {
      for (const isOrganization of [false, true]) {
        sum += 1;
        await write(1, isOrganization);
      }
      while (ledger.backlog.depth > 0) await sleep(20);
      marks = await markOf(payers);
    } while (marks.some(({ exceptions }) => exceptions > 1));
    for (const mark of marks) expect(mark.depth).toBe(0);
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    const total =
      Number(await ledger.getUserBalance(payers.user)) +
      Number(await ledger.getOrganizationBalance(payers.organization));
    expect(total).toBe(sum);
    await idle.run('commit');
    await fixture.expectExact();
  });
});

describe('a transaction that wrote usage and idles', () => {
  it.each(['commit', 'rollback'])(
    'keeps its own rows alone unsettled, until its %s',
    async (end) => {
      const payers = {
        user: await fixture.addUser(),
        organization: await fixture.addOrganization(),
      };
      sessions = await openSessions(fixture.database.url, 1);
      idle = sessions.all[0] as Session;
      await idle.run('begin');
      for (const organization_id of [null, payers.organization]) {
        await insertUsageAndMetadataWithBalanceUpdate(idle.client, {
          kilo_user_id: payers.user,
          organization_id,
          cost: 1_000,
        });
      }
      const ledger = await fixture.open({ backgroundFold: true });
      let written = 0;
      let marks: Awaited<ReturnType<typeof markOf>>;
      do {
        do {
          await ledger.recordUsage({ kilo_user_id: payers.user, cost: 1 });
          await ledger.recordUsage({
            kilo_user_id: payers.user,
            organization_id: payers.organization,
            cost: 1,
          });
        } while (++written < 150);
        while (ledger.backlog.depth > 0) await sleep(20);
        marks = await markOf(payers);
        // Another that was open for a moment only is none after the next settle.
      } while (marks.some(({ exceptions }) => exceptions > 1));
      for (const mark of marks) expect(mark).toMatchObject({ depth: 0, exceptions: 1 });
      expect(await checkInvariants(fixture.database.pool)).toEqual([]);
      await idle.run(end);
      const own = end === 'commit' ? 1_000 : 0;
      expect(await ledger.getUserBalance(payers.user)).toBe(written + own);
      expect(await ledger.getOrganizationBalance(payers.organization)).toBe(written + own);
      await fixture.expectExact();
    },
  );
});
