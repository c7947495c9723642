import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openSessions } from '../support/sessions.js';

/** Rounds of a fold are far fewer. */
/** Far more than are written while the fold stands still for some seconds. */
const ENOUGH_EVENTS = 30_000;

let database: TestDatabase;
let ledger: Ledger;

beforeEach(async () => {
  database = await createTestDatabase();
  await database.pool.query(`insert into kilocode_users (id) values ('held'), ('busy')`);
  ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
});

afterEach(async () => {
  await ledger.close();
  await database.drop();
});

const record = (user: string) =>
  ledger.recordUsage({ id: randomUUID(), kilo_user_id: user, cost: 1 }, { balance: false });

describe('a fold beside writers', () => {
  it('ends, though one payer is held and another goes on writing', async () => {
    await using sessions = await openSessions(database.url, 1);
    await record('held');
    await sessions.all[0]?.run('begin');
    await sessions.all[0]?.run(`select from kilocode_users where id = 'held' for update`);
    await record('busy');
    let report: Awaited<ReturnType<Ledger['fold']>> | null = null;
    const folding = ledger.fold().then((folded) => {
      report = folded;
    });
    let written = 0;
    for (; report === null && written < ENOUGH_EVENTS; written++) await record('busy');
    expect(written, 'the fold went on for as long as somebody wrote').toBeLessThan(ENOUGH_EVENTS);
    await folding;
    expect(report).toMatchObject({ remaining: expect.any(Number) });
    expect((report as unknown as { remaining: number }).remaining).toBeGreaterThan(0);
  });
});
