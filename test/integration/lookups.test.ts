import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Query } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { validateEvent } from '../../src/record/event.js';
import { LookupCache } from '../../src/record/lookups.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { RecordedEvent, UsageEvent, UsageMetadata } from '../../src/record/types.js';
import { LOOKUP_NAMES } from '../../src/schema/lookupNames.js';
import { openSessions, type Session, untilBlocked } from '../support/sessions.js';
import {
  createLedgerFixture,
  type LedgerFixture,
  ledgerErrorOf,
  resolveLookups,
} from './ledgerHarness.js';

let fixture: LedgerFixture;
let ledger: Ledger;
let user: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open({ lockTimeoutMs: 250 });
  user = await fixture.addUser();
});

afterAll(() => fixture.close());

const newValue = () => `value ${randomUUID()}`;
const record = (metadata: UsageMetadata, through = ledger) =>
  through.recordUsage({ kilo_user_id: user, cost: 1, metadata });
const editorOf = async (id: string, from = fixture) =>
  (
    await from.rows(
      `select editor_name, lookup_values from microdollar_usage_metadata
       left join editor_name using (editor_name_id) where id = $1`,
      [id],
    )
  )[0];

/** A new value that has, or has not, the advisory lock of another one. */
async function valueInBucket(other: string, isSame: boolean): Promise<string> {
  const [row] = await fixture.rows<{ value: string }>(
    `select value
     from (select 'value ' || gen_random_uuid() as value from generate_series(1, 20000)) as v
     where (microdollar_key_bucket(null, 'editor_name|' || value)
       = microdollar_key_bucket(null, 'editor_name|' || $1)) = $2
     limit 1`,
    [other, isSame],
  );
  if (!row) throw new Error('no such value among 20,000');
  return row.value;
}

async function inTransaction(
  end: 'commit' | 'rollback',
  { database }: LedgerFixture,
  work: (client: Session) => Promise<void>,
) {
  await using sessions = await openSessions(database.url, 1);
  const session = sessions.all[0] as Session;
  await session.run('begin');
  await work(session);
  await session.run(end);
}

describe('lookup values', () => {
  it('are normalized: one row a value, for every lookup', async () => {
    const value = newValue();
    const metadata = Object.fromEntries(LOOKUP_NAMES.map((name) => [name, `${name} ${value}`]));
    const first = await record(metadata);
    const second = await record(metadata);
    for (const name of LOOKUP_NAMES) {
      expect(
        await fixture.rows(
          `select ${name}, count(*)::integer as n from microdollar_usage_metadata
           join ${name} using (${name}_id) where id = any($1) group by 1`,
          [[first.id, second.id]],
        ),
      ).toEqual([{ [name]: `${name} ${value}`, n: 2 }]);
      const rows = `select from ${name} where ${name} = $1`;
      expect(await fixture.rows(rows, [`${name} ${value}`])).toHaveLength(1);
    }
  });

  it.each([
    ['empty', ''],
    ['with quotes, backslashes and braces', `'"\\{}, null${String.fromCharCode(10)}$1`],
    ['the word null', 'null'],
    ['of 512 characters of three bytes', '語'.repeat(512)],
    ['with an emoji', '🦊'.repeat(256)],
    ['with half a surrogate pair', `x\ud83e`],
  ])('are kept as they are: %s', async (_, value) => {
    for (const through of [ledger, await fixture.open({ preparedStatements: false })]) {
      const results = await through.recordUsageBatch([
        { kilo_user_id: user, cost: 1, metadata: { editor_name: value } },
        { kilo_user_id: user, cost: 1, metadata: { editor_name: value, latency: 1 } },
      ]);
      for (const { id } of results) {
        expect(await editorOf(id ?? '')).toEqual({
          editor_name: value.toWellFormed(),
          lookup_values: null,
        });
      }
    }
  });

  it('get one row when many callers and processes bring the same new ones at once', async () => {
    const values = Array.from({ length: 10 }, newValue);
    const rivals = await Promise.all([1, 2, 3].map(() => fixture.open()));
    const results = await Promise.all(
      Array.from({ length: 90 }, (_, index) =>
        record(
          { editor_name: values[index % 10] as string },
          [ledger, ...rivals][index % 4] as Ledger,
        ),
      ),
    );
    expect(results.every(({ status }) => status === 'recorded')).toBe(true);
    const rows = 'select editor_name from editor_name where editor_name = any($1)';
    expect(await fixture.rows(rows, [values])).toHaveLength(10);
    await resolveLookups(fixture, ledger);
    for (const { id } of results) {
      expect(await editorOf(id)).toMatchObject({ lookup_values: null });
    }
  });

  it('are cached: a warm write waits for no lookup table', async () => {
    const metadata = Object.fromEntries(LOOKUP_NAMES.map((name) => [name, newValue()]));
    const appending = await fixture.open({ appendAlways: true, lockTimeoutMs: 250 });
    for (const through of [ledger, appending]) await record(metadata, through);
    await inTransaction('commit', fixture, async (holder) => {
      await holder.run(`lock table ${LOOKUP_NAMES.join(', ')} in access exclusive mode`);
      for (const through of [ledger, appending]) {
        expect(await record(metadata, through)).toMatchObject({ status: 'recorded' });
        const event = { kilo_user_id: user, cost: 1, metadata };
        const results = await through.recordUsageBatch([event, event]);
        expect(results.map(({ status }) => status)).toEqual(['recorded', 'recorded']);
        // A new value does: the lock is what this test takes it for.
        const error = await ledgerErrorOf(record({ editor_name: newValue() }, through));
        expect(error).toMatchObject({ code: 'unavailable', details: { sqlstate: '55P03' } });
      }
    });
  });

  it('are not cached from a transaction of the caller that rolls back', async () => {
    const value = newValue();
    // No ledger is open there: its housekeeping would give the value its id at any moment.
    const own = await createLedgerFixture();
    const core = { kilo_user_id: await own.addUser(), cost: 1 };
    const { pool } = own.database;
    const client = await pool.connect();
    await client.query('begin');
    await client.query('insert into editor_name (editor_name) values ($1)', [value]);
    await insertUsageAndMetadataWithBalanceUpdate(client, core, { editor_name: value });
    await client.query('rollback');
    const again = await insertUsageAndMetadataWithBalanceUpdate(client, core, {
      editor_name: value,
    });
    client.release();
    expect(await editorOf(again.id, own)).toEqual({
      editor_name: null,
      lookup_values: { editor_name: value },
    });
    const { id } = await insertUsageAndMetadataWithBalanceUpdate(pool, core, {
      editor_name: value,
    });
    expect(await editorOf(id, own)).toEqual({ editor_name: value, lookup_values: null });
    await resolveLookups(own, await own.open());
    expect(await editorOf(again.id, own)).toEqual({ editor_name: value, lookup_values: null });
    await own.close();
  });
});

describe('lookup rows that are lost', () => {
  // A row that was seen five milliseconds ago is taken to be there.
  const lose = async (own: LedgerFixture, sql: string) => {
    await own.rows(sql);
    await sleep(10);
  };
  const ways = {
    'through the ledger': async (own: LedgerFixture) => {
      const through = await own.open();
      return (event: UsageEvent) => through.recordUsage(event);
    },
    'one event a statement': async (own: LedgerFixture) => {
      const through = await own.open({ groupCommit: false });
      return (event: UsageEvent) => through.recordUsage(event);
    },
    'in a batch': async (own: LedgerFixture) => {
      const through = await own.open();
      return async (event: UsageEvent) =>
        (
          await through.recordUsageBatch([event, { ...event, metadata: { latency: 1 } }])
        )[0] as RecordedEvent;
    },
    "on a host's pool": async (own: LedgerFixture) => {
      return ({ metadata, ...event }: UsageEvent) =>
        insertUsageAndMetadataWithBalanceUpdate(own.database.pool, event, metadata);
    },
  };

  it.each(Object.entries(ways))(
    'are there again with the next write that names them: %s',
    async (_, openWay) => {
      const own = await createLedgerFixture();
      onTestFinished(() => own.close());
      const [alice, bob] = [await own.addUser('alice'), await own.addUser('bob')];
      const [record, second] = [await openWay(own), await own.open()];
      const write = async (http_ip: string) =>
        (await record({ kilo_user_id: alice, cost: 1, metadata: { http_ip, feature: 'f' } })).id ??
        '';
      const ipOf = async (id: string) =>
        (
          await own.rows<{ http_ip: string | null }>(
            `select l.http_ip from microdollar_usage_metadata as m
             left join http_ip as l using (http_ip_id) where m.id = $1`,
            [id],
          )
        )[0]?.http_ip;
      const ids = [await write('198.51.100.1')];
      // The tail of the log is gone, and what sequences said; processes go on, and remember.
      await lose(own, 'truncate http_ip restart identity');
      ids.push(await write('198.51.100.1'));
      // An answer waits for a look for 100 ms, no longer.
      for (const id of ids) await expect.poll(() => ipOf(id)).toBe('198.51.100.1');
      // From here on looks may rest: what is lost is back soon after the answer.
      await lose(own, 'truncate http_ip restart identity');
      for (let host = 0; host < 60; host++) {
        await second.recordUsage({
          kilo_user_id: bob,
          cost: 1,
          metadata: { http_ip: `203.0.113.${host}` },
        });
      }
      // Another's value is never named meanwhile.
      for (const id of ids) expect(await ipOf(id)).toBe(null);
      ids.push(await write('198.51.100.1'));
      for (const id of ids) await expect.poll(() => ipOf(id)).toBe('198.51.100.1');

      // An id that a sequence gave, before this ledger came, can be another's after it.
      await own.rows(`insert into http_ip values (5, '192.0.2.5')`);
      expect(await ipOf(await write('192.0.2.5'))).toBe('192.0.2.5');
      await lose(
        own,
        `with gone as (delete from http_ip where http_ip_id = 5)
         select setval(pg_get_serial_sequence('http_ip', 'http_ip_id'), 5)`,
      );
      await lose(own, `insert into http_ip values (5, '192.0.2.6')`);
      const after = await write('192.0.2.5');
      await expect.poll(() => ipOf(after)).toBe('192.0.2.5');
      expect(await ipOf(await write('192.0.2.5'))).toBe('192.0.2.5');
      await own.expectExact();
    },
  );

  it('are looked for in no time that a lock on their table takes', async () => {
    await record({ editor_name: 'locked' });
    await sleep(10);
    await using sessions = await openSessions(fixture.database.url, 1);
    const session = sessions.all[0] as Session;
    await session.run('begin');
    await session.run('lock table editor_name');
    // Answered while the table is locked.
    const { id } = await record({ editor_name: 'locked' });
    await session.run('rollback');
    expect(await editorOf(id)).toMatchObject({ editor_name: 'locked' });
  });
});

describe('values that another session is inserting', () => {
  it('with the same id get another one, and fail no event', async () => {
    const [pair] = await fixture.rows<{ values: [string, string] }>(`
      select array_agg(v) as values
      from (select 'agent ' || i as v from generate_series(1, 200000) as i) as x
      group by hashtextextended(v, 0) & 1073741823
      having count(*) = 2
      limit 1`);
    const [first, second] = pair?.values ?? ['', ''];
    await using sessions = await openSessions(fixture.database.url, 2);
    const [holder, other] = sessions.all as [Session, Session];
    await holder.run('begin');
    await holder.run(`select microdollar_lookup_id('editor_name', $1)`, [first]);
    const event = validateEvent(
      { kilo_user_id: user, cost: 1, metadata: { editor_name: second } },
      { nulBytesRemoved: 0 },
    );
    const query: Query = ({ text, values }) => other.run(text, values);
    const resolved = new LookupCache().resolve(query, [event]);
    await untilBlocked(fixture.database.pool, other, resolved);
    await holder.run('commit');
    expect(await resolved).toHaveLength(1);
    const ids = await fixture.rows(
      'select count(distinct editor_name_id)::integer as n from editor_name where editor_name = any ($1)',
      [[first, second]],
    );
    expect(ids).toEqual([{ n: 2 }]);
  });

  it.each(['commit', 'rollback'] as const)(
    'wait as text and get their id after its %s',
    async (end) => {
      const value = newValue();
      // Exists, so that it cannot share the lock of the value that is held.
      await record({ feature: 'chat' });
      let id = '';
      await inTransaction(end, fixture, async (holder) => {
        await holder.run('insert into editor_name (editor_name) values ($1)', [value]);
        id = (await record({ editor_name: value, feature: 'chat' })).id;
        expect(await editorOf(id)).toEqual({
          editor_name: null,
          lookup_values: { editor_name: value },
        });
        await ledger.fold();
        expect(await editorOf(id)).toMatchObject({ lookup_values: { editor_name: value } });
      });
      await resolveLookups(fixture, ledger);
      expect(await editorOf(id)).toEqual({ editor_name: value, lookup_values: null });
    },
  );

  it('share a few locks: one with the lock of a held value waits as text too, and no longer', async () => {
    const held = newValue();
    const colliding = await valueInBucket(held, true);
    let id = '';
    await inTransaction('commit', fixture, async (holder) => {
      await holder.run('insert into editor_name (editor_name) values ($1)', [held]);
      id = (await record({ editor_name: colliding })).id;
      expect(await editorOf(id)).toMatchObject({ lookup_values: { editor_name: colliding } });
    });
    await resolveLookups(fixture, ledger);
    expect(await editorOf(id)).toEqual({ editor_name: colliding, lookup_values: null });
  });

  it('hold up no other row, however many wait for them', async () => {
    const held = newValue();
    const free = await valueInBucket(held, false);
    const stuck = (index: number) => `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`;
    const last = 'ffffffff-ffff-4fff-bfff-ffffffffffff';
    // A ledger alone: the passes of many, skipping what each other holds, would reach far by chance.
    const own = await createLedgerFixture();
    const alone = await own.open();
    const ownUser = await own.addUser();
    await inTransaction('commit', own, async (holder) => {
      await holder.run('insert into editor_name (editor_name) values ($1)', [held]);
      await own.rows(
        `with usage as (
           insert into microdollar_usage (id, kilo_user_id, cost)
           select id, $1, 0 from unnest($2::uuid[]) as id returning id, kilo_user_id
         )
         insert into microdollar_usage_metadata (id, kilo_user_id, lookup_values)
         select id, kilo_user_id,
           jsonb_build_object('editor_name', case when id = $3 then $5::text else $4::text end)
         from usage`,
        [
          ownUser,
          [...Array.from({ length: 450 }, (_, index) => stuck(index)), last],
          last,
          held,
          free,
        ],
      );
      await alone.fold();
      expect(await editorOf(last, own)).toEqual({ editor_name: free, lookup_values: null });
      expect(await editorOf(stuck(449), own)).toMatchObject({ editor_name: null });
    });
    await alone.fold();
    expect(await editorOf(stuck(0), own)).toEqual({ editor_name: held, lookup_values: null });
    expect(await editorOf(stuck(449), own)).toEqual({ editor_name: held, lookup_values: null });
    await own.expectExact();
    await own.close();
  });
});
