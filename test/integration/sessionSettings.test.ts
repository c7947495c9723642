import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { dumpLedger } from '../../src/db/dump/dump.js';
import { restoreLedger } from '../../src/db/dump/restore.js';
import { createTestDatabase } from '../support/database.js';
import { type ArchiveFixture, createArchiveFixture } from './archiveHarness.js';

/** What a role or a database sets for its sessions changes nothing that leaves them. */
const SETTINGS = ['extra_float_digits = -15', "datestyle = 'german, dmy'"];
const AT = '2026-05-04T10:14:59.999999Z';
const LATENCY = 0.1 + 0.2;

let fixture: ArchiveFixture;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'microdollar-settings-'));
  fixture = await createArchiveFixture();
  const { name } = fixture.database;
  for (const setting of SETTINGS) await fixture.rows(`alter database ${name} set ${setting}`);
  const ledger = await fixture.open();
  await ledger.recordUsage({
    kilo_user_id: await fixture.addUser(),
    cost: 5,
    created_at: AT,
    metadata: { latency: LATENCY },
  });
});
afterEach(async () => {
  await fixture.close();
  await rm(directory, { recursive: true, force: true });
});

it('archived usage has every digit, and its time', async () => {
  await fixture.prove();
  await fixture.archive(AT.slice(0, 10));
  expect(await fixture.archived()).toMatchObject([
    { created_at: AT, metadata: { latency: LATENCY } },
  ]);
});

it('so has a dump that is restored elsewhere', async () => {
  const client = new pg.Client({ connectionString: fixture.database.url });
  await client.connect();
  const other = await createTestDatabase({ empty: true });
  try {
    await dumpLedger(client, { directory: join(directory, 'dump') });
    await restoreLedger(other.url, { directory: join(directory, 'dump') });
    const { rows } = await other.pool.query(
      `select u.created_at = $1::timestamptz as is_then, m.latency
       from microdollar_usage as u
       join microdollar_usage_metadata as m on m.id = u.id`,
      [AT],
    );
    expect(rows).toEqual([{ is_then: true, latency: LATENCY }]);
  } finally {
    await client.end();
    await other.drop();
  }
});
