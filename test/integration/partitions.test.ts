import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { v7 } from 'uuid';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  addMonths,
  boundsOf,
  lowestIdOf,
  monthOf,
  partitionOf,
  preparingName,
  startOf,
} from '../../src/db/migrate/partitions/months.js';
import { countMonthsAhead } from '../../src/db/migrate/partitions/planMonths.js';
import { prepareMonths } from '../../src/db/migrate/partitions/prepareMonths.js';
import { readPartitionState } from '../../src/db/migrate/partitions/state.js';
import type { TableShape } from '../../src/db/migrate/shape.js';
import { migrate, planMigration } from '../../src/db/migrate.js';
import { databaseUrl } from '../support/database.js';
import { readDatabase } from '../support/describeDatabase.js';
import { inForm } from '../support/form.js';
import { partitionFully } from '../support/partitioned.js';
import { openSessions } from '../support/sessions.js';
import { createArchiveFixture } from './archiveHarness.js';
import { runCommand } from './cliHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

/** Of the server's clock, two months from now: prepared by every first run. */
const AHEAD = addMonths(monthOf(Date.now()), 2);

let fixture: LedgerFixture;
const url = () => fixture.database.url;

/** As a program makes one that knows no time, and by chance of the month after the next. */
const strayId = () => `${lowestIdOf(AHEAD).slice(0, 13)}-4${randomUUID().slice(15)}`;

/** The schema; a partitioned table in it looks like any other, but for its kind. */
async function readSchema() {
  const shape = await readDatabase(url());
  const plain = (table: TableShape) =>
    table.name === 'microdollar_usage' ? { ...table, kind: 'r' } : table;
  return { ...shape, tables: shape.tables.map(plain) };
}

async function partitionOfId(id: string): Promise<string | undefined> {
  const [row] = await fixture.rows<{ partition: string }>(
    'select tableoid::regclass::text as partition from microdollar_usage where id = $1',
    [id],
  );
  return row?.partition;
}

function killMigrating() {
  return fixture.rows(
    `select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where application_name = 'microdollar migrate' and datname = current_database()`,
  );
}

beforeEach(async () => {
  fixture = await createLedgerFixture();
});

afterEach(() => fixture.close());

describe('beside four writers', () => {
  it('lets every write through, each once, whatever its id; the longest wait is told', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    const [single, batches] = [await fixture.open(), await fixture.open()];
    const stray = strayId();
    await single.recordUsage({ id: stray, kilo_user_id: user, cost: 1 });
    await single.recordUsageBatch(
      Array.from({ length: 50 }, () => ({ kilo_user_id: user, cost: 1 })),
    );
    const before = await readSchema();
    let isStopped = false;
    let longestMs = 0;
    const costs = [51];
    const write = async (send: () => Promise<number>) => {
      while (!isStopped) {
        const startedAt = performance.now();
        costs.push(await send());
        longestMs = Math.max(longestMs, performance.now() - startedAt);
        await sleep(inForm(15, 2));
      }
    };
    const event = () => ({ kilo_user_id: user, organization_id: organization, cost: 3 });
    await using sessions = await openSessions(url(), 1);
    const writers = Promise.all([
      write(() => single.recordUsage(event()).then(() => 3)),
      write(() => single.recordUsage({ kilo_user_id: user, cost: 2 }).then(() => 2)),
      write(async () => (await batches.recordUsageBatch([event(), event()])).length * 3),
      // Another program, by a plain insert.
      write(async () => {
        await sessions.all[0]?.run(
          `insert into microdollar_usage (id, kilo_user_id, cost, position)
          values ($1, $2, 5, microdollar_position())`,
          [v7(), user],
        );
        return 5;
      }),
    ]);
    // Costs are positive: a total that falls has lost a row for a moment.
    const totals: { exact: number; raw: number }[] = [];
    const reading = (async () => {
      while (!isStopped) {
        totals.push(
          ...(await fixture.rows<{ exact: number; raw: number }>(
            `select
              (select sum(total_cost_microdollars) from microdollar_usage_daily_exact)::integer
                as exact,
              (select sum(cost) from microdollar_usage)::integer as raw`,
          )),
        );
        await sleep(inForm(20, 0));
      }
    })();
    // Ids of a month that is being prepared wait aside until it is.
    const early: Promise<unknown>[] = [];
    const late = [strayId(), v7({ msecs: startOf(AHEAD) + 1 })];
    const result = await migrate(url(), {
      partitionById: true,
      onStep: ({ step }) => {
        if (step.kind !== 'attach_partition') return;
        for (const id of late) {
          early.push(single.recordUsage({ id, kilo_user_id: user, cost: 4 }));
        }
      },
    });
    await Promise.all(early);
    isStopped = true;
    await Promise.all([writers, reading]);
    expect(totals).toEqual(
      totals.map(({ raw }) => ({ exact: raw, raw })).sort((a, b) => a.raw - b.raw),
    );
    console.log(`longest write beside the partitioning: ${Math.round(longestMs)} ms`);
    expect(result.isPartitioned).toBe(true);
    const [sum] = await fixture.rows('select sum(cost)::integer as cost from microdollar_usage');
    expect(sum).toEqual({ cost: costs.reduce((all, cost) => all + cost, 8) });
    for (const id of [stray, ...late]) {
      expect(await partitionOfId(id)).toBe(partitionOf(AHEAD));
      expect(
        await single.recordUsage({ id, kilo_user_id: user, cost: id === stray ? 1 : 4 }),
      ).toMatchObject({
        status: 'duplicate',
      });
    }
    expect(await readSchema()).toEqual(before);
    expect(await migrate(url(), { partitionById: true })).toMatchObject({ isPartitioned: true });
    await fixture.expectExact();
  });
});

describe('what hangs on the table', () => {
  it('is carried over: keys, privileges, triggers, views, functions, comments', async () => {
    const role = `reader_${randomUUID().slice(0, 8)}`;
    await fixture.rows(`
      create role ${role};
      grant select on microdollar_usage to ${role} with grant option;
      grant insert (cost), update (cost) on microdollar_usage to public;
      alter default privileges grant delete on tables to ${role};
      comment on table microdollar_usage is 'what was used, it''s all';
      create table seen (id uuid);
      create function see() returns trigger language plpgsql as
        $$ begin insert into seen values (new.id); return null; end $$;
      create trigger see after insert on microdollar_usage for each row execute function see();
      alter table microdollar_usage enable always trigger see;
      create trigger never after insert on microdollar_usage for each row execute function see();
      alter table microdollar_usage disable trigger never;
      create schema host;
      create view host.costs with (security_invoker = true) as
        select id, sum(cost) as cost from microdollar_usage group by id;
      create view host.of_costs as select sum(cost) as cost from host.costs;
      grant select on host.costs to ${role};
      create function host.total() returns bigint language sql
        begin atomic select sum(cost)::bigint from microdollar_usage; end;
      alter table microdollar_usage add constraint of_user
        foreign key (kilo_user_id) references kilocode_users (id);
      create index "an index" on microdollar_usage using btree (model) where model is not null`);
    const user = await fixture.addUser();
    const ledger = await fixture.open();
    await ledger.recordUsage({ kilo_user_id: user, cost: 5 });
    const rights = () =>
      fixture.rows(
        `select coalesce(c.relacl::text, '') as rights, obj_description(c.oid, 'pg_class') as comment,
        array(select a.attacl::text from pg_attribute as a
          where a.attrelid = c.oid and a.attacl is not null) as columns
      from pg_class as c
      where c.oid in ('microdollar_usage'::regclass, 'host.costs'::regclass)
      order by c.relname`,
      );
    const [schema, before] = [await readSchema(), await rights()];
    await migrate(url(), { partitionById: true });
    expect(await rights()).toEqual(before);
    expect(await readSchema()).toEqual(schema);
    const id = v7({ msecs: startOf(AHEAD) });
    await ledger.recordUsage({ id, kilo_user_id: user, cost: 6 });
    expect(await fixture.rows('select cost::integer from host.of_costs')).toEqual([{ cost: 11 }]);
    expect(await fixture.rows('select host.total()::integer as total')).toEqual([{ total: 11 }]);
    expect((await fixture.rows('select id from seen')).at(-1)).toEqual({ id });
    expect(await fixture.rows('select from seen')).toHaveLength(2);
    await expect(
      fixture.rows(
        `insert into microdollar_usage (id, kilo_user_id, cost) values ($1, 'nobody', 1)`,
        [v7({ msecs: startOf(AHEAD) })],
      ),
    ).rejects.toThrow('of_user');
    await fixture.rows('alter table microdollar_usage drop constraint of_user');
    await fixture.expectExact();
    await fixture.rows(`drop owned by ${role}; drop role ${role}`);
  });
});

describe('what cannot be partitioned', () => {
  it('is refused with the reason and figures, all at once, and nothing is changed', async () => {
    const user = await fixture.addUser();
    await fixture.rows(
      `insert into microdollar_usage (id, kilo_user_id, cost)
      select gen_random_uuid(), $1, 5 from generate_series(1, 20)`,
      [user],
    );
    await fixture.rows(`
      insert into microdollar_usage (id, kilo_user_id, cost) values ('${v7()}', '${user}', 5);
      create unique index other_key on microdollar_usage (id) include (cost);
      create unique index foreign_key on microdollar_usage (kilo_user_id, created_at, position);
      create materialized view kept as select sum(cost) from microdollar_usage;
      create table notes (usage_id uuid references microdollar_usage (id));
      create function row_of(microdollar_usage) returns bigint language sql as 'select 1::bigint';
      create publication half for table microdollar_usage;
      alter table microdollar_usage add constraint small check (cost < 1000000) not valid;
      create table ${partitionOf(AHEAD)} as select 1 as a`);
    const before = await readSchema();
    const reasons = [
      /^microdollar_usage has a unique index without the id, foreign_key/,
      /^microdollar_usage has a constraint that is not validated, or not inherited, small/,
      /^microdollar_usage is in publication half/,
      /^constraint notes_usage_id_fkey on table notes holds the table itself/,
      /^function row_of\(microdollar_usage\) holds/,
      /^rule _RETURN on materialized view kept holds/,
      /^of the 21 newest usage rows 1 \(4 %\) have an id that is a UUID v7/,
    ];
    const { problems, steps } = await planMigration(url(), { partitionById: true });
    expect(problems.map((problem) => reasons.findIndex((reason) => reason.test(problem)))).toEqual([
      0, 1, 2, 3, 4, 5, 6,
    ]);
    expect(steps).toEqual([]);
    const error = await ledgerErrorOf(migrate(url(), { partitionById: true }));
    expect(error).toMatchObject({ code: 'internal', details: { problems } });
    const run = await runCommand(
      { DATABASE_URL: url() },
      'migrate',
      '--partition-by-id',
      '--dry-run',
    );
    expect(run).toMatchObject({ status: 1, stdout: expect.stringContaining('(4 %) have an id') });
    expect(await readSchema()).toEqual(before);
    expect((await migrate(url())).warnings).toEqual([]);
    await fixture.rows('drop publication half');
  });
});

describe('ended at any step', () => {
  it('it leaves a ledger that is whole, and goes on', async () => {
    const user = await fixture.addUser();
    const ledger = await fixture.open();
    await ledger.recordUsage({ kilo_user_id: user, cost: 5 });
    await ledger.recordUsage({ id: strayId(), kilo_user_id: user, cost: 5 });
    const impatient = await fixture.open({ lockTimeoutMs: 100 });
    const before = await readSchema();
    const killed: string[] = [];
    for (let isDone = false; !isDone; ) {
      isDone = await migrate(url(), {
        partitionById: true,
        onStep: async ({ step }) => {
          if (killed.includes(step.kind)) return;
          killed.push(step.kind);
          await killMigrating();
        },
      }).then(
        () => true,
        () => false,
      );
      await ledger.recordUsage({ kilo_user_id: user, cost: 5 });
      if (killed.at(-1) === 'attach_partition' && !isDone) {
        const [early, other] = await impatient.recordUsageBatch([
          { id: strayId(), kilo_user_id: user, cost: 5 },
          { kilo_user_id: user, cost: 5 },
        ]);
        expect(early).toMatchObject({
          status: 'rejected',
          error: { code: 'unavailable', details: { sqlstate: '23514' } },
        });
        expect(other).toMatchObject({ status: 'recorded' });
        const status = await runCommand({ DATABASE_URL: url() }, 'status');
        expect(status.stdout).toContain(
          'are being prepared: their ids cannot be written meanwhile',
        );
      }
      expect((await readSchema()).tables.filter(({ name }) => !/_\d{4}_\d\d$/.test(name))).toEqual(
        before.tables,
      );
    }
    expect(killed).toEqual([
      'partition_table',
      'analyze',
      'create_table',
      'add_constraint',
      'validate_constraint',
      'attach_partition',
    ]);
    const state = await readPartitionState(fixture.database.pool);
    expect(state).toMatchObject({ kind: 'by id', preparing: null, detached: [] });
    await fixture.expectExact();
  });
});

describe('a ledger that is partitioned', () => {
  it('has each id in the month of its time, to the millisecond', async () => {
    await migrate(url(), { partitionById: true });
    const ledger = await fixture.open();
    const user = await fixture.addUser();
    const last = `${lowestIdOf(AHEAD).slice(0, 8)}-${lowestIdOf(AHEAD).slice(9, 13)}-7`;
    const first = `${last}000-8000-000000000000`;
    const before = v7({ msecs: startOf(AHEAD) - 1, random: new Uint8Array(16).fill(255) });
    for (const id of [first, before]) await ledger.recordUsage({ id, kilo_user_id: user, cost: 5 });
    expect(await partitionOfId(first)).toBe(partitionOf(AHEAD));
    expect(await partitionOfId(before)).toBe(partitionOf(addMonths(AHEAD, -1)));
    await fixture.expectExact();
  });

  it('gets its months in the background; a role that may not leaves it to others', async () => {
    await migrate(url(), { partitionById: true });
    const months = async () => countMonthsAhead(await readPartitionState(fixture.database.pool));
    const full = await months();
    for (let ahead = full; ahead > 2; ahead--) {
      await fixture.rows(
        `drop table ${partitionOf(addMonths(monthOf(Date.now()), ahead + (6 - full)))}`,
      );
    }
    const role = `service_${randomUUID().slice(0, 8)}`;
    await fixture.rows(
      `create role ${role} login password 'test'; grant usage on schema public to ${role}`,
    );
    const service = new URL(databaseUrl(url(), fixture.database.name));
    service.username = role;
    service.password = 'test';
    await prepareMonths(service.href);
    expect(await months()).toBe(2);
    await prepareMonths(url());
    expect(await months()).toBe(full);
    await fixture.rows(`drop owned by ${role}; drop role ${role}`);
  });

  it('takes ids again of a month that a run was ended in preparing, and that began meanwhile', async () => {
    await migrate(url(), { partitionById: true });
    const now = monthOf(Date.now());
    const [from, until] = boundsOf(now, now);
    await fixture.rows(
      `alter table microdollar_usage_default add constraint ${preparingName(now, now)}
        check (id < ${from} or id >= ${until}) not valid`,
    );
    const user = await fixture.addUser();
    const ledger = await fixture.open({ lockTimeoutMs: 100 });
    const error = await ledgerErrorOf(ledger.recordUsage({ kilo_user_id: user, cost: 5 }));
    expect(error).toMatchObject({ code: 'unavailable', retryable: true });
    expect(error.message).toContain('run `microdollar migrate`');
    await prepareMonths(url());
    expect(await ledger.recordUsage({ kilo_user_id: user, cost: 5 })).toMatchObject({
      status: 'recorded',
    });
    await fixture.expectExact();
  });

  it('is dumped whole, shown by status, and restored as one table', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'microdollar-partitions-'));
    const env = { DATABASE_URL: url(), MICRODOLLAR_DATA_DIR: dir };
    const ledger = await fixture.open();
    const user = await fixture.addUser();
    await ledger.recordUsage({ kilo_user_id: user, cost: 5 });
    const made = await runCommand(env, '--json', 'migrate', '--partition-by-id');
    expect(JSON.parse(made.stdout)).toMatchObject({ partitioned_by_id: true });
    await ledger.recordUsage({ id: strayId(), kilo_user_id: user, cost: 5 });
    const status = JSON.parse((await runCommand(env, '--json', 'status')).stdout);
    expect(status).toMatchObject({
      usage_partitions: { being_prepared: null },
      usage: { rows: 2 },
    });
    expect((await runCommand(env, 'status')).stdout).toMatch(
      /^partitions +\d months, \d of them ahead/m,
    );
    const dumped = JSON.parse((await runCommand(env, '--json', 'dump', join(dir, 'dump'))).stdout);
    expect(dumped.tables).toContainEqual({ name: 'microdollar_usage', rows: 2 });
    await rm(dir, { recursive: true, force: true });
  });
});

describe('an archive', () => {
  it('drops months that it has emptied; what belongs to later days goes into the default', async () => {
    const archive = await createArchiveFixture();
    try {
      await partitionFully(archive.database.url);
      const now = monthOf(Date.now());
      const [past, last] = [addMonths(now, -2), addMonths(now, -1)];
      const user = await archive.addUser();
      const of = (month: string, day: string) => {
        const created_at = `${month}-${day}T12:00:00.000Z`;
        return {
          id: v7({ msecs: Date.parse(created_at) }),
          kilo_user_id: user,
          cost: 10,
          created_at,
        };
      };
      const stray = { ...of(past, '03'), cost: 7, created_at: `${now}-01T00:00:00.000Z` };
      await archive.record([of(past, '01'), of(past, '28'), of(last, '01'), of(last, '20'), stray]);
      await archive.prove();
      const steps: string[] = [];
      const seen: number[] = [];
      let isOver = false;
      const reading = (async () => {
        while (!isOver) {
          seen.push((await archive.rows('select from microdollar_usage where cost = 7')).length);
        }
      })();
      const report = await archive.archive(`${last}-10`, { onStep: (step) => steps.push(step) });
      isOver = true;
      await reading;
      expect(new Set(seen)).toEqual(new Set([1]));
      expect(report).toMatchObject({ rows: 3, failures: [] });
      expect(steps.filter((step) => step === 'partition dropped')).toHaveLength(1);
      const { partitions } = await readPartitionState(archive.database.pool);
      const names = partitions.map(({ name }) => name);
      expect(names).not.toContain(partitionOf(past));
      expect(names).toContain(partitionOf(last));
      const rows =
        'select tableoid::regclass::text as partition from microdollar_usage where id = $1';
      expect(await archive.rows(rows, [stray.id])).toEqual([
        { partition: 'microdollar_usage_default' },
      ]);
      expect(await archive.ledger.recordUsage(stray)).toMatchObject({ status: 'duplicate' });
      await archive.expectExact();
    } finally {
      await archive.close();
    }
  });
});
