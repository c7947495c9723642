import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { expect } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger, LedgerOptions } from '../../src/ledgerTypes.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import {
  createTestDatabase,
  type TestDatabase,
  type TestDatabaseOptions,
} from '../support/database.js';
import { createDatabaseOnOwnServer } from '../support/ownServer.js';

/** A database with ledgers on it, all closed together. */
export interface LedgerFixture {
  database: TestDatabase;
  /** A ledger that settles nothing in the background, so that a test decides when. */
  open(options?: Partial<LedgerOptions>): Promise<Ledger>;
  addUser(id?: string): Promise<string>;
  addOrganization(): Promise<string>;
  /** Rows of one statement. */
  rows<Row = Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]>;
  /** The invariants hold now; then everything is folded, and they hold in the base tables alone. */
  expectExact(): Promise<void>;
  close(): Promise<void>;
}

export interface FixtureOptions extends Pick<TestDatabaseOptions, 'template' | 'kept'> {
  /** Where a test asks for base rows before any fold (ownServer.ts). */
  ownServer?: boolean;
}

export async function createLedgerFixture(options: FixtureOptions = {}): Promise<LedgerFixture> {
  const { ownServer, ...copied } = options;
  const database = await (ownServer ? createDatabaseOnOwnServer() : createTestDatabase(copied));
  const ledgers: Ledger[] = [];
  const rows = async <Row>(text: string, values: unknown[] = []) =>
    (await database.pool.query(text, values)).rows as Row[];
  const open = async (options: Partial<LedgerOptions> = {}) => {
    const ledger = await createLedger({
      databaseUrl: database.url,
      poolSize: 4,
      backgroundFold: false,
      ...options,
    });
    ledgers.push(ledger);
    return ledger;
  };
  return {
    database,
    open,
    rows,
    addUser: async (id = `user ${randomUUID()}`) => {
      await rows('insert into kilocode_users (id) values ($1)', [id]);
      return id;
    },
    addOrganization: async () => {
      const [row] = await rows<{ id: string }>(
        `insert into organizations (name) values ('o') returning id`,
      );
      return row?.id ?? '';
    },
    expectExact: async () => {
      expect(await checkInvariants(database.pool)).toEqual([]);
      await foldAll(ledgers[0] ?? (await open()));
      expect(await checkInvariants(database.pool)).toEqual([]);
      expect(await checkFolded(database.pool)).toEqual([]);
    },
    close: async () => {
      await Promise.all(ledgers.map((ledger) => ledger.close()));
      await database.drop();
    },
  };
}

/** One call of `fold` leaves nothing when nobody holds a row. */
export async function foldAll(ledger: Ledger): Promise<void> {
  expect(await ledger.fold()).toMatchObject({ remaining: 0 });
}

/**
 * Folds until no metadata row waits for a lookup id. One call may skip a row that
 * the housekeeping of another ledger has locked, which then resolves it; a row that nobody
 * resolves fails the test by its timeout.
 */
export async function resolveLookups(fixture: LedgerFixture, ledger: Ledger): Promise<void> {
  const waiting = 'select from microdollar_usage_metadata where lookup_values is not null limit 1';
  do await ledger.fold();
  while ((await fixture.rows(waiting)).length > 0);
}

/** The LedgerError that work ends with; any other end fails the test. */
export async function ledgerErrorOf(work: Promise<unknown>): Promise<LedgerError> {
  const error = await work.then(
    (value) => new Error(`no error, but ${inspect(value)}`),
    (reason: unknown) => reason,
  );
  if (error instanceof LedgerError) return error;
  throw error;
}

export const PERSONAL_DAILY = `
  select usage_date::text as usage_date, total_cost_microdollars::integer as total
  from microdollar_usage_daily
  where kilo_user_id = $1 and organization_id is null
  order by usage_date`;

export const ORGANIZATION_DAILY = `
  select usage_date::text as usage_date, total_cost_microdollars::integer as total
  from microdollar_usage_daily
  where kilo_user_id = $1 and organization_id = $2
  order by usage_date`;
