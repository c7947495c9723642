import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { drizzle } from 'drizzle-orm/node-postgres';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { settleStatement } from '../../src/counter/settle.sql.js';
import { settleExaStatement } from '../../src/counter/settleExa.sql.js';
import { LedgerError } from '../../src/errors.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { BatchResult, RecordedEvent, UsageEvent } from '../../src/record/types.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../src/schema/unsettled.js';
import { setExaAllowance } from '../support/exaAllowance.js';
import { openPool } from '../support/openPool.js';
import { SEED_UPSERT } from '../support/seedUpsert.sql.js';
import {
  type LockWait,
  lockWaitsDuring,
  openSessions,
  type Session,
  type Sessions,
} from '../support/sessions.js';
import {
  createLedgerFixture,
  foldAll,
  type LedgerFixture,
  resolveLookups,
} from './ledgerHarness.js';
import { AT, CASES, DAY, type Payers } from './neverWaitCases.js';

/**
 * I4, stepped: one session does something to the rows that a write would touch and keeps its
 * transaction open; every way of writing must still commit, for the same payer and its
 * neighbours, without one wait. A short lock timeout makes any wait an error.
 */
const LOCK_TIMEOUT_MS = 250;

let fixture: LedgerFixture;
let sessions: Sessions;
let holder: Session;
let hostPool: pg.Pool;
let single: Ledger;
let batching: Ledger;
let appending: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  sessions = await openSessions(fixture.database.url, 1);
  holder = sessions.all[0] as Session;
  hostPool = openPool({
    connectionString: fixture.database.url,
    max: 3,
    options: `-c lock_timeout=${LOCK_TIMEOUT_MS}`,
  });
  await setExaAllowance(fixture.database.pool, 100);
  const options = { lockTimeoutMs: LOCK_TIMEOUT_MS };
  single = await fixture.open({ ...options, groupCommit: false });
  batching = await fixture.open(options);
  appending = await fixture.open({ ...options, appendAlways: true });
});

afterAll(async () => {
  await sessions.close();
  await hostPool.end();
  await fixture.close();
});

/** What a test left is proven: the next need not prove it again, three times. */
afterEach(() =>
  fixture.rows(
    [
      'microdollar_usage_metadata',
      'microdollar_usage',
      'microdollar_usage_daily',
      'exa_usage_log',
      'exa_monthly_usage',
      'kilocode_users',
      'organizations',
    ]
      .map((table) => `delete from ${table};`)
      .join('\n'),
  ),
);

async function newPayers(): Promise<Payers> {
  return {
    user: await fixture.addUser(),
    neighbour: await fixture.addUser(),
    organization: await fixture.addOrganization(),
    lookupValue: `value ${randomUUID()}`,
  };
}

/** Personal and organization events of the user and of a neighbour in the same organization. */
function eventsOf({ user, neighbour, organization, lookupValue }: Payers): UsageEvent[] {
  const metadata = { editor_name: lookupValue, latency: 3 };
  return [
    { kilo_user_id: user, cost: 11, created_at: AT, metadata },
    { kilo_user_id: neighbour, cost: 13, created_at: AT },
    { kilo_user_id: user, organization_id: organization, cost: 17, created_at: AT },
    { kilo_user_id: neighbour, organization_id: organization, cost: -19, created_at: AT, metadata },
  ];
}

const insert = ({ metadata, ...core }: UsageEvent, executor: Parameters<typeof drizzle>[0]) =>
  insertUsageAndMetadataWithBalanceUpdate(executor as pg.Pool, core, metadata ?? null);

async function inTransaction(events: UsageEvent[]): Promise<void> {
  const client = await hostPool.connect();
  try {
    await client.query('begin');
    for (const event of events) await insert(event, client);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

function failIfRejected(results: BatchResult<RecordedEvent>[]): void {
  for (const result of results) if ('error' in result) throw result.error;
}

interface Way {
  name: string;
  /** A rejected write throws. */
  write(payers: Payers): Promise<void>;
}

const recordEach = (ledger: () => Ledger) => async (payers: Payers) => {
  for (const event of eventsOf(payers)) await ledger().recordUsage(event);
};

const recordTogether = (ledger: () => Ledger) => async (payers: Payers) => {
  failIfRejected(await ledger().recordUsageBatch(eventsOf(payers)));
};

const recordExa = (ledger: () => Ledger) => async (payers: Payers) => {
  for (const { kilo_user_id, organization_id = null, cost } of eventsOf(payers)) {
    const exa = { kilo_user_id, organization_id, cost: cost * 10, path: '/search' };
    await ledger().recordExaUsage({ ...exa, created_at: AT });
  }
};

/**
 * Every way to write. Each has payers of its own: on a pool of a host's, what one appended makes the
 * next append without a try, and its lock path would go untested.
 */
const WAYS: readonly Way[] = [
  { name: 'recordUsage', write: recordEach(() => single) },
  { name: 'recordUsageBatch', write: recordTogether(() => batching) },
  { name: 'recordUsage, settled later', write: recordEach(() => appending) },
  { name: 'recordUsageBatch, settled later', write: recordTogether(() => appending) },
  {
    name: 'recordUsage without the balance',
    write: async (payers) => {
      for (const event of eventsOf(payers)) await single.recordUsage(event, { balance: false });
    },
  },
  {
    name: 'recordUsageBatch without balances',
    write: async (payers) => {
      failIfRejected(await batching.recordUsageBatch(eventsOf(payers), { balance: false }));
    },
  },
  { name: 'recordExaUsage', write: recordExa(() => single) },
  { name: 'recordExaUsage, settled later', write: recordExa(() => appending) },
  {
    name: 'insertUsageAndMetadataWithBalanceUpdate on a pool',
    write: async (payers) => {
      for (const event of eventsOf(payers)) await insert(event, hostPool);
    },
  },
  {
    name: 'insertUsageAndMetadataWithBalanceUpdate in a transaction of the caller',
    write: (payers) => inTransaction(eventsOf(payers)),
  },
];

type Turn = Way & { payers: Payers };

async function newTurns(): Promise<Turn[]> {
  const users = WAYS.map((): [string, string] => [`user ${randomUUID()}`, `user ${randomUUID()}`]);
  await fixture.rows('insert into kilocode_users (id) select unnest($1::text[])', [users.flat()]);
  const organizations = await fixture.rows<{ id: string }>(
    `insert into organizations (name) select 'o' from generate_series(1, $1) returning id`,
    [WAYS.length],
  );
  return WAYS.map((way, index) => {
    const [user = '', neighbour = ''] = users[index] ?? [];
    const organization = organizations[index]?.id ?? '';
    return {
      ...way,
      payers: { user, neighbour, organization, lookupValue: `value ${randomUUID()}` },
    };
  });
}

/** Every way, one after another. The first failure names the way. */
async function writeInEveryWay(turns: readonly Turn[]): Promise<void> {
  for (const { name, write, payers } of turns) {
    await write(payers).catch((error: Error) => {
      throw new Error(`${name}: ${error.message}`, { cause: error });
    });
  }
}

async function retriesOf(ledger: Ledger): Promise<number> {
  const { values } = await ledger.metrics.retries.get();
  return values.reduce((sum, each) => sum + each.value, 0);
}

/** Runs work beside the open transaction; what waited, in words. */
async function waitsOf(work: () => Promise<unknown>): Promise<LockWait[]> {
  const ledgers = [single, batching, appending];
  const before = await Promise.all(ledgers.map(retriesOf));
  const waits = await lockWaitsDuring(fixture.database.pool, work);
  // A retry would hide a lock timeout.
  expect(await Promise.all(ledgers.map(retriesOf))).toEqual(before);
  return waits;
}

/** A daily row, an Exa month and a balance for each payer. */
async function giveHistory(turns: readonly Turn[]): Promise<void> {
  const payers = turns.flatMap(({ payers: { user, neighbour, organization } }) =>
    [user, neighbour].flatMap((kilo_user_id) =>
      [null, organization].map((organization_id) => ({ kilo_user_id, organization_id })),
    ),
  );
  failIfRejected(
    await batching.recordUsageBatch(payers.map((payer) => ({ ...payer, cost: 1, created_at: AT }))),
  );
  await fixture.rows(
    `insert into exa_usage_log (id, kilo_user_id, organization_id, cost, path, created_at, position)
     select gen_random_uuid(), u, o, 1, '/search', $3, microdollar_position()
     from unnest($1::text[], $2::uuid[]) as payer(u, o)`,
    [
      payers.map(({ kilo_user_id }) => kilo_user_id),
      payers.map(({ organization_id }) => organization_id),
      AT,
    ],
  );
  await foldAll(single);
}

/** In Exa's log, and in no month yet. */
const appendExa = ({ user, neighbour, organization }: Payers) =>
  fixture.rows(
    `insert into exa_usage_log (id, kilo_user_id, organization_id, cost, path, created_at, position)
     select gen_random_uuid(), u, o, 150, '/search', $3, microdollar_position()
     from unnest($1::text[]) as u
     cross join unnest(array[null, $2::uuid]) as o`,
    [[user, neighbour], organization, AT],
  );

/**
 * So many transactions begin and end that one that is open is no longer young: it holds no mark, and
 * folds go around it, to the very rows that it holds.
 */
const passTime = () =>
  fixture.rows('do $$ begin for i in 1..100 loop perform txid_current(); commit; end loop; end $$');

describe('beside a transaction that stays open after', () => {
  it.each(CASES)('$name, then $end, no write waits', async ({ fresh, statements, end }) => {
    const turns = await newTurns();
    if (!fresh) await giveHistory(turns);
    await holder.run('begin');
    try {
      for (const { payers } of turns) {
        for (const [text, values] of statements(payers)) await holder.run(text, values);
      }
      await passTime();
      expect(await waitsOf(() => writeInEveryWay(turns))).toEqual([]);
    } finally {
      await holder.run(end);
    }
    await fixture.expectExact();
    await resolveLookups(fixture, single);
  });
});

describe('beside a transaction of the caller that has written and stays open', () => {
  it('no other write of the same payers waits', async () => {
    const turns = await newTurns();
    const transaction = await hostPool.connect();
    try {
      await transaction.query('begin');
      for (const { payers } of turns) {
        for (const event of eventsOf(payers)) await insert(event, transaction);
      }
      await passTime();
      expect(await waitsOf(() => writeInEveryWay(turns))).toEqual([]);
      await transaction.query('commit');
    } finally {
      transaction.release();
    }
    await fixture.expectExact();
  });
});

describe('beside a fold', () => {
  it('that holds its locks no write waits', async () => {
    const turns = await newTurns();
    await giveHistory(turns);
    for (const { payers } of turns) {
      await recordTogether(() => appending)(payers);
      await appendExa(payers);
    }
    await holder.run('begin');
    try {
      for (const { payers } of turns) {
        const { user, neighbour, organization } = payers;
        const limits = { youngXids: 0, rowsPerPayer: null };
        const [users, organizations] = [[user, neighbour], [organization]];
        for (const { text, values } of [
          settleStatement(USER_SCOPE, users, [true, true], limits),
          settleStatement(ORGANIZATION_SCOPE, organizations, [true], limits),
          settleExaStatement(USER_SCOPE, users, limits),
          settleExaStatement(ORGANIZATION_SCOPE, organizations, limits),
        ]) {
          const rows = await holder.run<{ settled: string }>(text, values);
          expect(rows.filter(({ settled }) => settled === '0')).toEqual([]);
        }
      }
      expect(await waitsOf(() => writeInEveryWay(turns))).toEqual([]);
    } finally {
      await holder.run('commit');
    }
    await fixture.expectExact();
  });
});

describe('the detector', () => {
  const seedWrite = (user: string) => async () => {
    await hostPool.query(SEED_UPSERT, [randomUUID(), user, 5, AT]);
  };
  const plantedLocks: [name: string, text: string, values: (user: string) => unknown[]][] = [
    ['a held balance row', 'select from kilocode_users where id = $1 for update', (user) => [user]],
    [
      'a held daily row',
      'update microdollar_usage_daily set updated_at = now() where kilo_user_id = $1',
      (user) => [user],
    ],
    [
      "the day's first row, inserted",
      `insert into microdollar_usage_daily (kilo_user_id, usage_date) values ($1, '2025-05-07')`,
      (user) => [user],
    ],
  ];

  it.each(plantedLocks)("sees the seed's statement wait for %s", async (name, text, values) => {
    const { user } = await newPayers();
    await single.recordUsage({ kilo_user_id: user, cost: 1, created_at: AT });
    const at = name.includes('first row') ? '2025-05-07T00:00:00Z' : AT;
    await holder.run('begin');
    try {
      await holder.run(text, values(user));
      let waits: LockWait[] = [];
      // The wait ends with the lock timeout: a busy machine may not look in time.
      while (!waits.some(({ blockedBy }) => blockedBy.includes(holder.pid))) {
        let failure: unknown;
        waits = await waitsOf(async () => {
          failure = await hostPool
            .query(SEED_UPSERT, [randomUUID(), user, 5, at])
            .catch((error: unknown) => error);
        });
        expect(failure).toMatchObject({ code: '55P03' });
      }
      expect(waits.map((wait) => wait.blockedBy)).toContainEqual([holder.pid]);
    } finally {
      await holder.run('rollback');
    }
    await seedWrite(user)();
    await fixture.expectExact();
  });

  const damages: [name: string, damage: (user: string) => Promise<void>][] = [
    [
      'a function that opens a day without its try',
      async () => {
        const [row] = await fixture.rows<{ definition: string }>(
          `select pg_get_functiondef(oid) as definition from pg_proc
           where proname = 'microdollar_open_daily'`,
        );
        const intact = row?.definition ?? '';
        expect(intact).toContain('if not pg_try_advisory_xact_lock');
        await fixture.rows(
          intact.replace(
            'if not pg_try_advisory_xact_lock',
            'if false and not pg_try_advisory_lock',
          ),
        );
      },
    ],
  ];

  it.each(damages)('sees a ledger write wait for %s', async (_, damage) => {
    const intact = await fixture.rows<{ definition: string }>(
      `select pg_get_functiondef(oid) as definition from pg_proc
       where proname = 'microdollar_open_daily'`,
    );
    const { user } = await newPayers();
    await damage(user);
    await holder.run('begin');
    try {
      await holder.run(
        'insert into microdollar_usage_daily (kilo_user_id, usage_date) values ($1, $2)',
        [user, DAY],
      );
      await passTime();
      // The write is recorded all the same; what waits is the settle behind its answer.
      const patient = await fixture.open({ groupCommit: false });
      const waits = await lockWaitsDuring(fixture.database.pool, async (seen) => {
        const writing = patient.recordUsage({ kilo_user_id: user, cost: 1, created_at: AT });
        while (!seen.some(({ blockedBy }) => blockedBy.includes(holder.pid))) await sleep(5);
        await holder.run('rollback');
        await writing;
      });
      expect(waits.map((wait) => wait.blockedBy)).toContainEqual([holder.pid]);
    } finally {
      await holder.run('rollback');
      await fixture.rows(intact[0]?.definition ?? '');
    }
    await fixture.expectExact();
  });

  it('sees a ledger write wait for the one thing it may wait for: its twin (I3)', async () => {
    const { user } = await newPayers();
    const id = randomUUID();
    await holder.run('begin');
    try {
      await holder.run(SEED_UPSERT, [id, user, 5, AT]);
      let waits: LockWait[] = [];
      while (!waits.some(({ blockedBy }) => blockedBy.includes(holder.pid))) {
        let failure: unknown;
        waits = await lockWaitsDuring(fixture.database.pool, async () => {
          failure = await single
            .recordUsage({ id, kilo_user_id: user, cost: 5, created_at: AT })
            .catch((error: unknown) => error);
        });
        expect(failure).toBeInstanceOf(LedgerError);
        expect(failure).toMatchObject({ code: 'unavailable', retryable: true });
      }
      expect(waits.map((wait) => wait.blockedBy)).toContainEqual([holder.pid]);
    } finally {
      await holder.run('commit');
    }
    const answer = await single.recordUsage({ id, kilo_user_id: user, cost: 5, created_at: AT });
    expect(answer.status).toBe('duplicate');
    await fixture.expectExact();
  });
});
