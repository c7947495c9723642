import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Settler } from '../../src/counter/settler.js';
import { Sweep } from '../../src/counter/sweep.js';
import { type Query, queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { ROLLUPS } from '../../src/schema/rollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { openSessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * Usage that is written before its payer exists, by a host: it counts once, from the moment its
 * payer does, whatever was swept, proven or repaired before.
 */
let fixture: LedgerFixture;
let ledger: Ledger;

beforeEach(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});
afterEach(() => fixture.close());

const ORGANIZATION = '00000000-0000-4000-8000-0000000000aa';
const LOGS = {
  microdollar_usage: 'id, kilo_user_id, organization_id, cost, position',
  exa_usage_log: 'id, kilo_user_id, organization_id, cost, position, path',
};
const insertUsage = (cost: number, log: keyof typeof LOGS = 'microdollar_usage', of = USER) =>
  `insert into ${log} (${LOGS[log]})
   values (gen_random_uuid(), 'late', ${of.organization}, ${cost}, microdollar_position()
     ${log === 'exa_usage_log' ? `, '/search'` : ''})`;

const USER = {
  name: 'a user',
  organization: 'null',
  create: `insert into kilocode_users (id) values ('one'), ('late'), ('two')`,
  remove: `delete from kilocode_users where id = 'late'`,
};
const OF_ORGANIZATION = {
  name: 'an organization',
  organization: `'${ORGANIZATION}'`,
  create: `insert into organizations (id, name) values ('${ORGANIZATION}', 'o')`,
  remove: 'delete from organizations',
};
const PAYERS = [USER, OF_ORGANIZATION];

/** Usage here is of today: the last two days hold it, whenever this runs. */
const recent = () => ({
  url: fixture.database.url,
  from: new Date(Date.now() - 86_400_000).toISOString().slice(0, 10),
});
const repair = async () => {
  for (const rollup of ROLLUPS) await repairRollup({ ...recent(), rollup });
};
const drifts = async () =>
  (await Promise.all(ROLLUPS.map((rollup) => verifyRollup({ ...recent(), rollup })))).flatMap(
    (report) => report.drifts,
  );
const reported = async () => {
  const [row] = await fixture.rows<{ usage: number; exa: number }>(
    `select
      (select coalesce(sum(total_cost_microdollars), 0)::integer
        from microdollar_usage_daily_exact where kilo_user_id = 'late') as usage,
      (select coalesce(sum(total_cost_microdollars), 0)::integer
        from exa_monthly_usage_exact where kilo_user_id = 'late') as exa`,
  );
  return row;
};
const settings = async () => {
  const [row] = await fixture.rows<{ below: string; updated_at: string }>(
    'select settled_everywhere_below as below, updated_at::text from ledger_settings',
  );
  return { below: BigInt(row?.below ?? 0), updatedAt: row?.updated_at };
};

/** A row that no table of a payer holds, and low water above it, as a sweep would note. */
async function passBy(): Promise<void> {
  await ledger.fold();
  await fixture.rows(`update ledger_settings set settled_everywhere_below =
    greatest(settled_everywhere_below,
      (generation << 44) + txid_snapshot_xmax(txid_current_snapshot()))`);
}

describe.each(PAYERS)('usage from before its payer, $name,', (payer) => {
  it.each(['nothing', 'a verification', 'a repair'])(
    'is counted once where %s came before the payer',
    async (before) => {
      await fixture.rows(insertUsage(50, 'microdollar_usage', payer));
      await fixture.rows(insertUsage(7, 'exa_usage_log', payer));
      await passBy();
      if (before !== 'nothing') expect(await drifts()).toEqual([]);
      if (before === 'a repair') await repair();
      await fixture.rows(payer.create);
      expect(await reported()).toEqual({ usage: 50, exa: 7 });
      expect(await checkInvariants(fixture.database.pool)).toEqual([]);
      expect(await drifts()).toEqual([]);
      await repair();
      expect(await reported()).toEqual({ usage: 50, exa: 7 });
      await fixture.expectExact();
      expect(await reported()).toEqual({ usage: 50, exa: 7 });
    },
  );

  it('is counted once after the payer is deleted, whatever other payers come late', async () => {
    await fixture.rows(insertUsage(50, 'microdollar_usage', payer));
    await fixture.rows(payer.create);
    await fixture.expectExact();
    await fixture.rows(payer.remove);
    for (const way of ['swept', 'not swept']) {
      if (way === 'swept') await passBy();
      else await fixture.rows('update ledger_settings set settled_everywhere_below = 0');
      expect(await drifts()).toEqual([]);
      await repair();
      expect(await reported()).toEqual({ usage: 50, exa: 0 });
    }
  });
});

describe('a payer that comes while a sweep is under way', () => {
  /** `atPage` runs before the sweep looks at users, `atNote` before it notes. */
  function sweepWith(steps: { atPage?: () => Promise<unknown>; atNote?: () => Promise<unknown> }) {
    const query = queryOnPool(fixture.database.pool, false);
    const stepped: Query = async <Row>(statement: Parameters<Query>[0]) => {
      if (statement.name === 'microdollar_sweep_user') await steps.atPage?.();
      if (statement.name === 'microdollar_note_sweep') await steps.atNote?.();
      return query<Row>(statement);
    };
    return new Sweep(stepped, new Settler({ query }));
  }
  const expectNothingBelow = async () => {
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    await repair();
    expect(await reported()).toEqual({ usage: 50, exa: 0 });
  };

  it('behind its back, and is there before it notes', async () => {
    await fixture.rows(insertUsage(50));
    const steps = { atNote: () => fixture.rows(USER.create) };
    await sweepWith(steps).pass();
    await expectNothingBelow();
  });

  it('behind its back, and is not there yet when it notes', async () => {
    await using sessions = await openSessions(fixture.database.url, 1);
    const [creator] = sessions.all;
    await fixture.rows(insertUsage(50));
    const steps = {
      atNote: async () => {
        await creator?.run('begin');
        await creator?.run(USER.create);
      },
    };
    await sweepWith(steps).pass();
    await creator?.run('commit');
    await expectNothingBelow();
  });

  it('before it looks, and is not there yet at its end', async () => {
    await using sessions = await openSessions(fixture.database.url, 1);
    const [creator] = sessions.all;
    await fixture.rows(insertUsage(50));
    const steps = {
      atPage: async () => {
        await creator?.run('begin');
        await creator?.run(USER.create);
      },
    };
    await sweepWith(steps).pass();
    await creator?.run('commit');
    await expectNothingBelow();
  });

  it('before the usage is committed, and ends after any number of sweeps', async () => {
    await using sessions = await openSessions(fixture.database.url, 2);
    const [creator, writer] = sessions.all;
    await writer?.run('begin');
    await writer?.run(insertUsage(50));
    await creator?.run('begin');
    await creator?.run(USER.create);
    await writer?.run('commit');
    const sweep = sweepWith({});
    for (let round = 0; round < 3; round++) await sweep.pass();
    await creator?.run('commit');
    await expectNothingBelow();
  });

  it('in the midst of older transactions, one of which creates it', async () => {
    await using sessions = await openSessions(fixture.database.url, 2);
    const [creator, writer] = sessions.all;
    await writer?.run('begin');
    await writer?.run(insertUsage(50));
    await creator?.run('begin');
    await creator?.run('select txid_current()');
    await writer?.run('commit');
    const sweep = sweepWith({});
    await sweep.pass();
    await creator?.run(USER.create);
    await sweep.pass();
    await creator?.run('commit');
    await expectNothingBelow();
  });

  it('and is settled by a later sweep, which then notes more', async () => {
    await fixture.rows(insertUsage(50));
    await passBy();
    const { below } = await settings();
    await fixture.rows(USER.create);
    expect((await settings()).below < below).toBe(true);
    // Transactions of other databases count too: until none of them outlives a sweep.
    while ((await settings()).below < below) await ledger.fold();
    await fixture.expectExact();
  });
});

describe('payers that nothing was written for', () => {
  it('change no settings, nor do those whose usage is of the same transaction', async () => {
    await passBy();
    const before = await settings();
    await fixture.rows(USER.create);
    await fixture.rows(OF_ORGANIZATION.create);
    await fixture.rows(`insert into microdollar_usage (id, kilo_user_id, cost)
      values (gen_random_uuid(), 'counted', 5)`);
    await fixture.rows(`insert into kilocode_users (id) values ('counted')`);
    await using sessions = await openSessions(fixture.database.url, 1);
    const [host] = sessions.all;
    await host?.run('begin');
    await host?.run(insertUsage(3).replace(`'late'`, `'new'`));
    await host?.run(`insert into kilocode_users (id) values ('new')`);
    await host?.run('commit');
    expect(await settings()).toEqual(before);
  });

  it('may be created by a role that may do nothing else', async () => {
    const role = `creator_${process.pid}`;
    await fixture.rows(insertUsage(50));
    await passBy();
    await fixture.rows(`create role ${role}`);
    await fixture.rows(`grant insert on kilocode_users to ${role}`);
    await using sessions = await openSessions(fixture.database.url, 1);
    const [host] = sessions.all;
    await host?.run(`set role ${role}`);
    await host?.run(USER.create);
    await host?.run('reset role');
    await fixture.rows(`drop owned by ${role}`);
    await fixture.rows(`drop role ${role}`);
    await repair();
    expect(await reported()).toEqual({ usage: 50, exa: 0 });
    await fixture.expectExact();
  });
});
