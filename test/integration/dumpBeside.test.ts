import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type DumpReport, dumpLedger } from '../../src/db/dump/dump.js';
import { openSessions, type Session, untilBlocked } from '../support/sessions.js';
import { runCommand } from './cliHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

let fixture: LedgerFixture;
let directory: string;
beforeEach(async () => {
  fixture = await createLedgerFixture();
  directory = await mkdtemp(join(tmpdir(), 'microdollar-dump-'));
});
afterEach(async () => {
  await fixture.close();
  await rm(directory, { recursive: true, force: true });
});

it('has every row of a table that is made anew, or of which a part is dropped, as it begins', async () => {
  const ledger = await fixture.open();
  const user = await fixture.addUser();
  await ledger.recordUsage({ kilo_user_id: user, cost: 5 });
  await using sessions = await openSessions(fixture.database.url, 2);
  const [dumping, other] = sessions.all as [Session, Session];
  // The first table that a dump comes to.
  await other.run('begin');
  await other.run('lock table api_keys in access exclusive mode');
  const dump = dumpLedger(dumping.client, { directory });
  await untilBlocked(fixture.database.pool, dumping, dump);
  // As a migration that rewrites a table, and an archive that drops a partition: for snapshots of before
  // what was there is gone.
  await other.run('create temp table kept on commit drop as table microdollar_usage');
  await other.run('truncate microdollar_usage');
  await other.run('insert into microdollar_usage table kept');
  await other.run('commit');
  const { tables }: DumpReport = await dump;
  expect(tables.find(({ name }) => name === 'microdollar_usage')?.rows).toBe(1);
});

it('an export has every row, too', async () => {
  const ledger = await fixture.open();
  const user = await fixture.addUser();
  await ledger.recordUsage({ kilo_user_id: user, cost: 5, created_at: '2026-03-01T00:00:00Z' });
  await using sessions = await openSessions(fixture.database.url, 1);
  const [other] = sessions.all as [Session];
  await other.run('begin');
  await other.run('create temp table kept on commit drop as table microdollar_usage');
  await other.run('truncate microdollar_usage');
  await other.run('insert into microdollar_usage table kept');
  const range = ['--from', '2026-03-01', '--until', '2026-03-01'];
  const exported = runCommand({ DATABASE_URL: fixture.database.url }, '--json', 'export', ...range);
  const waiting = `select query from pg_stat_activity
    where application_name like 'microdollar command%' and wait_event_type = 'Lock'`;
  await expect.poll(() => fixture.rows(waiting), { timeout: 20_000 }).toHaveLength(1);
  await other.run('commit');
  expect(JSON.parse((await exported).stdout)).toMatchObject({ rows: 1 });
});
