import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { UsageEvent } from '../../src/record/types.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { type ArchivedEvent, readArchive } from '../../src/rollup/archive/readFile.js';
import type { ArchiveOptions, ArchiveReport } from '../../src/rollup/archive/types.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { once } from '../support/database.js';
import { createLedgerFixture, type FixtureOptions, type LedgerFixture } from './ledgerHarness.js';

const DAY_MS = 86_400_000;

/** The UTC day so many days ago. */
export function daysAgo(days: number): string {
  return new Date(Date.now() - days * DAY_MS).toISOString().slice(0, 10);
}

export interface ArchiveFixture extends LedgerFixture {
  ledger: Ledger;
  directory: string;
  /** Records events; all must be new. */
  record(events: readonly UsageEvent[]): Promise<void>;
  /** Verifies every day, which must be clean. */
  prove(): Promise<void>;
  archive(until: string, options?: Partial<ArchiveOptions>): Promise<ArchiveReport>;
  /** Events in the files. */
  archived(): Promise<ArchivedEvent[]>;
  rawIds(): Promise<string[]>;
}

export async function createArchiveFixture(options: FixtureOptions = {}): Promise<ArchiveFixture> {
  const fixture = await createLedgerFixture(options);
  const ledger = await fixture.open();
  const directory = await mkdtemp(join(tmpdir(), 'microdollar-archive-'));
  return {
    ...fixture,
    ledger,
    directory,
    async record(events) {
      const results = await ledger.recordUsageBatch(events);
      expect(results.filter((result) => result.status !== 'recorded')).toEqual([]);
    },
    async prove() {
      await ledger.fold();
      const report = await verifyRollup({ url: fixture.database.url, rollup: DAILY_ROLLUP });
      expect(report.drifts).toEqual([]);
    },
    archive: (until, options = {}) =>
      archiveUsage({ url: fixture.database.url, until, directory, ...options }),
    async archived() {
      const events: ArchivedEvent[] = [];
      for await (const event of readArchive(directory)) events.push(event);
      return events;
    },
    async rawIds() {
      const rows = await fixture.rows<{ id: string }>('select id from microdollar_usage');
      return rows.map((row) => row.id);
    },
    async close() {
      await fixture.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** What the ledger reports, by key and by payer: it must not change. */
export async function reportedTotals({ rows }: LedgerFixture) {
  return {
    days: await rows(
      `select kilo_user_id, organization_id, usage_date::text as day,
         total_cost_microdollars::text as total
       from microdollar_usage_daily_exact
       where total_cost_microdollars <> 0
       order by 1, 2, 3`,
    ),
    users: await rows('select * from kilocode_user_balances order by 1'),
    organizations: await rows('select * from organization_balances order by 1'),
  };
}

export const FIRST = daysAgo(12);
export const LAST = daysAgo(9);

export interface FilledFixture extends ArchiveFixture {
  organization: string;
  events: (UsageEvent & { id: string; created_at: string })[];
}

/**
 * Four users, two scopes, days 12 to 5 ago; among them refunds, zero cost, and costs that cancel
 * out. Tests archive from FIRST to LAST.
 */
export async function createFilledFixture(): Promise<FilledFixture> {
  const { template, ...filled } = await filledDatabase();
  return { ...(await createArchiveFixture({ template })), ...filled };
}

const filledDatabase = once(async () => {
  const fixture = await createArchiveFixture({ kept: true });
  for (const id of ['ann', 'bob', 'cid', 'zero']) await fixture.addUser(id);
  const organization = await fixture.addOrganization();
  const many = Array.from({ length: 240 }, (_, index) => ({
    id: randomUUID(),
    kilo_user_id: ['ann', 'bob', 'cid'][index % 3] ?? '',
    organization_id: index % 5 === 4 ? organization : null,
    cost: index % 11 === 10 ? -40 : 100 + index,
    input_tokens: index,
    model: 'm',
    created_at: `${daysAgo(12 - (index % 8))}T${String(index % 24).padStart(2, '0')}:59:59.123456Z`,
    metadata:
      index % 2 === 0 ? { latency: 0.1 + index, feature: 'chat', http_ip: '192.0.2.1' } : null,
  }));
  const zero = (cost: number, created_at: string) => ({
    id: randomUUID(),
    kilo_user_id: 'zero',
    cost,
    created_at,
  });
  const events = [
    ...many,
    zero(0, `${FIRST}T00:00:00.000000Z`),
    zero(70, `${LAST}T01:00:00.000000Z`),
    zero(-70, `${LAST}T02:00:00.000000Z`),
  ];
  await fixture.record(events);
  await fixture.prove();
  await fixture.close();
  return { template: fixture.database.name, organization, events };
});

export function dayOf(event: { created_at: string }): string {
  return event.created_at.slice(0, 10);
}

/** Two users, 20 events on each of days 6 to 4 ago; ids of nobody matter. */
export async function createSmallFixture(): Promise<ArchiveFixture> {
  return await createArchiveFixture({ template: await smallDatabase() });
}

const smallDatabase = once(async () => {
  const fixture = await createArchiveFixture({ kept: true });
  for (const id of ['ann', 'bob']) await fixture.addUser(id);
  await fixture.record(
    Array.from({ length: 60 }, (_, index) => ({
      kilo_user_id: index % 3 === 0 ? 'bob' : 'ann',
      cost: 10 + index,
      created_at: `${daysAgo(6 - (index % 3))}T12:00:00Z`,
      metadata: { status_code: 200 },
    })),
  );
  await fixture.prove();
  await fixture.close();
  return fixture.database.name;
});
