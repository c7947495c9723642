import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import { GENERATION_SETTING } from '../../src/counter/position.sql.js';
import {
  readBalancesStatement,
  type SettledRow,
  type SettleLimits,
  settleStatement,
} from '../../src/counter/settle.sql.js';
import { type SettledExaRow, settleExaStatement } from '../../src/counter/settleExa.sql.js';
import { queryOn } from '../../src/db/query.js';
import type { Statement } from '../../src/db/statement.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { validateEvent } from '../../src/record/event.js';
import { appendExaStatement, validateExaUsage } from '../../src/record/exa.js';
import { recordInPlaceStatement, type WrittenInPlaceRow } from '../../src/record/inPlace.sql.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../../src/schema/unsettled.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { openSessions, type Session, type Sessions, untilBlocked } from '../support/sessions.js';
import { TEST_SCHEMA_SQL } from '../support/testSchema.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

export const AT = '2025-05-06T07:08:09Z';
export const DAY = '2025-05-06';

/** Everything that ended is settled, and what is open is an exception; or it holds the mark. */
export const AROUND: SettleLimits = { youngXids: 0, rowsPerPayer: null };
export const BEHIND: SettleLimits = { youngXids: 1_000_000, rowsPerPayer: null };

/** Which log, and who pays. */
export interface Kind {
  name: string;
  scope: PayerScope;
  isExa: boolean;
  below: string;
  except: string;
}

const ofUsage = { isExa: false, below: 'settled_below', except: 'settled_except' };
const ofExa = { isExa: true, below: 'exa_settled_below', except: 'exa_settled_except' };
export const USAGE_KINDS: readonly Kind[] = [
  { name: 'usage of a user', scope: USER_SCOPE, ...ofUsage },
  { name: 'usage of an organization', scope: ORGANIZATION_SCOPE, ...ofUsage },
];
export const KINDS: readonly Kind[] = [
  ...USAGE_KINDS,
  { name: 'Exa of a user', scope: USER_SCOPE, ...ofExa },
  { name: 'Exa of an organization', scope: ORGANIZATION_SCOPE, ...ofExa },
];

export interface Account {
  kind: Kind;
  user: string;
  organization: string | null;
  /** The payer's id. */
  payer: string;
}

/** Has the session ask again for the base of its positions. */
export const FORGET_GENERATION = `select pg_catalog.set_config(${GENERATION_SETTING}, '', false)`;

/** A held gate makes a statement of its session stop between its snapshot and its first row lock. */
const GATE = 4711;
const GATED_GENERATION = `
alter function microdollar_generation() rename to microdollar_generation_ungated;
create function microdollar_generation() returns bigint language plpgsql as $$
begin
  if current_setting('test.gate', true) = 'on' then
    perform pg_advisory_lock_shared(${GATE});
    perform pg_advisory_unlock_shared(${GATE});
  end if;
  return microdollar_generation_ungated();
end
$$;
create schema gate;
create function gate.set_config(text, text, boolean) returns text language plpgsql as $$
begin
  if current_setting('test.gate', true) = 'on' then
    perform pg_advisory_lock_shared(${GATE});
    perform pg_advisory_unlock_shared(${GATE});
  end if;
  return pg_catalog.set_config($1, $2, $3);
end
$$;`;

/** Statements pass the gate, and are planned once, as on the ledger's own connections. */
const SESSION_SETTINGS = `
set search_path = gate, pg_catalog, ${TEST_SCHEMA_SQL};
set plan_cache_mode = force_generic_plan`;

/** Sessions that write and fold by hand, on a server of their own; nothing folds by itself. */
export class Steps implements AsyncDisposable {
  readonly fixture: LedgerFixture;
  readonly #sessions: Sessions;

  private constructor(fixture: LedgerFixture, sessions: Sessions) {
    this.fixture = fixture;
    this.#sessions = sessions;
  }

  static async open(): Promise<Steps> {
    const fixture = await createLedgerFixture({ ownServer: true });
    await fixture.rows(GATED_GENERATION);
    await fixture.rows(
      'update ledger_settings set exa_free_allowance_microdollars = 5, generation = 3',
    );
    const sessions = await openSessions(fixture.database.url, 6);
    for (const session of sessions.all) await session.run(SESSION_SETTINGS);
    return new Steps(fixture, sessions);
  }

  /** Two that write, two that fold, a reader, and who keeps the gate. */
  get sessions() {
    const [a, b, f, g, reader, keeper] = this.#sessions.all as [
      Session,
      Session,
      Session,
      Session,
      Session,
      Session,
    ];
    return { a, b, f, g, reader, keeper };
  }

  /** One that a test may end. */
  async extraSession(): Promise<AsyncDisposable & { session: Session }> {
    const sessions = await openSessions(this.fixture.database.url, 1);
    const [session] = sessions.all as [Session];
    await session.run(SESSION_SETTINGS);
    return { session, [Symbol.asyncDispose]: () => sessions.close() };
  }

  /** With the counter rows of the day and the month, unless the account is `fresh`. */
  async account(kind: Kind, how: { fresh?: boolean } = {}): Promise<Account> {
    const user = await this.fixture.addUser();
    const organization =
      kind.scope === ORGANIZATION_SCOPE ? await this.fixture.addOrganization() : null;
    if (!how.fresh) {
      await this.fixture.rows('select microdollar_open_daily($1, $2, $3)', [
        user,
        organization,
        DAY,
      ]);
      await this.fixture.rows('select microdollar_open_exa_month($1, $2, $3)', [
        user,
        organization,
        '2025-05-01',
      ]);
    }
    return { kind, user, organization, payer: organization ?? user };
  }

  /** One row in the log, appended by the session. */
  async append(session: Session, account: Account, cost: number, createdAt = AT): Promise<string> {
    const id = randomUUID();
    const event = {
      id,
      kilo_user_id: account.user,
      organization_id: account.organization,
      cost,
      created_at: createdAt,
    };
    const cleaning = { nulBytesRemoved: 0 };
    const rows = await run<object>(
      session,
      account.kind.isExa
        ? appendExaStatement(validateExaUsage({ ...event, path: '/search' }, cleaning))
        : appendUsageStatement(validateEvent(event, cleaning), { metadata: null, isKnown: false }),
    );
    expect(rows).toHaveLength(1);
    return id;
  }

  /** Writes in place where it can; null: appended. The balance it answers otherwise. */
  async inPlace(session: Session, account: Account, cost: number): Promise<number | null> {
    const event = { kilo_user_id: account.user, organization_id: account.organization, cost };
    const valid = validateEvent({ ...event, created_at: AT }, { nulBytesRemoved: 0 });
    const [row] = await run<WrittenInPlaceRow>(session, recordInPlaceStatement(valid, null));
    if (!row) throw new Error('nothing was written');
    if (row.balance === null || row.is_whole) {
      return row.balance === null ? null : Number(row.balance);
    }
    const payer = readBalancesStatement(account.kind.scope, [account.payer]);
    return Number((await run<SettledRow>(session, payer))[0]?.balance);
  }

  /** One fold of the payer: rows seen, settled, and the balance it answers for usage. */
  async fold(session: Session, account: Account, limits: SettleLimits) {
    const { scope, isExa } = account.kind;
    const [row] = isExa
      ? await run<SettledExaRow>(session, settleExaStatement(scope, [account.payer], limits))
      : await run<SettledRow>(session, settleStatement(scope, [account.payer], [true], limits));
    return {
      depth: Number(row?.depth),
      settled: Number(row?.settled),
      missing: Number(row?.missing),
      balance: row && 'balance' in row ? Number(row.balance) : null,
    };
  }

  /** Runs work between the snapshot and the first row lock of a statement of the session. */
  async betweenSnapshotAndLocks<T>(
    session: Session,
    start: () => Promise<T>,
    work: () => Promise<void>,
  ): Promise<T> {
    const { keeper } = this.sessions;
    await keeper.run(`select pg_advisory_lock(${GATE})`);
    await session.run("set test.gate = 'on'");
    await session.run(FORGET_GENERATION);
    const statement = start();
    await untilBlocked(this.fixture.database.pool, session, statement);
    // Whoever ends the session in `work` is told by the statement, not by the process.
    statement.catch(() => {});
    try {
      await work();
    } finally {
      await keeper.run(`select pg_advisory_unlock(${GATE})`);
    }
    const result = await statement;
    await session.run("set test.gate = 'off'");
    return result;
  }

  async mark({ kind, payer }: Account): Promise<{ below: bigint; except: string[] }> {
    const [row] = await this.fixture.rows<{ below: string; except: string[] }>(
      `select ${kind.below} as below, ${kind.except}::text[] as except
       from ${kind.scope.payers} where id::text = $1`,
      [payer],
    );
    return { below: BigInt(row?.below ?? 0), except: row?.except ?? [] };
  }

  /** What views and counters say is what the sources say, for everybody, in one snapshot. */
  async expectExact(): Promise<void> {
    expect(await checkInvariants(this.fixture.database.pool)).toEqual([]);
  }

  /** Another fold leaves nothing of the payer, and no exception. */
  async expectFolds(account: Account, settled: number): Promise<void> {
    expect(await this.fold(this.sessions.g, account, AROUND)).toMatchObject({
      depth: settled,
      settled,
    });
    if (settled > 0) expect((await this.mark(account)).except).toEqual([]);
    await this.expectExact();
  }

  /** Rolls back whatever a test left open. */
  async reset(): Promise<void> {
    for (const session of this.#sessions.all) await session.run('rollback');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sessions.close();
    await this.fixture.close();
  }
}

/** As the ledger's own connections do: planned once a session. */
async function run<Row>(session: Session, statement: Statement): Promise<Row[]> {
  return await queryOn(session.client, true)<Row>(statement);
}
