import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { UsageEvent } from '../../src/record/types.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { type ArchivedEvent, readArchive } from '../../src/rollup/archive/readFile.js';
import type { ArchiveOptions, ArchiveReport } from '../../src/rollup/archive/types.js';
import { DAILY_ROLLUP } from '../../src/rollup/declaration.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

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

export async function createArchiveFixture(): Promise<ArchiveFixture> {
  const fixture = await createLedgerFixture();
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
      archiveUsage({
        url: fixture.database.url,
        until,
        directory,
        fold: () => ledger.fold(),
        ...options,
      }),
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
