import { expect } from 'vitest';
import { repairOn } from '../../../src/rollup/repair.js';
import { verifyOn } from '../../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../../src/schema/rollups.js';
import type { Command } from './command.js';
import { compareReports } from './compare.js';
import { areLocksHeld, hasOpenSession, type LedgerModel } from './ledgerModel.js';
import type { Program } from './program.js';

/** The days of every instant that a program gives, and one on either side. */
export const RANGE = { rollup: DAILY_ROLLUP, from: '2025-02-27', until: '2025-03-03' };

/** Finds nothing, whatever is in flight, pending or locked. */
export class Verify implements Command {
  constructor(readonly user: number) {}
  check = () => true;
  async run(_: LedgerModel, { world, users }: Program) {
    const kiloUserId = users[this.user] ?? '';
    for (const jobs of world.jobs) {
      // Of shards: where the user is not known there is nothing of theirs.
      const { drifts } = await verifyOn(jobs, { ...RANGE, kiloUserId }, 1).catch((error) => {
        if (world.jobs.length === 1 || error.code !== 'unknown_user') throw error;
        return { drifts: [] };
      });
      expect(drifts).toEqual([]);
    }
  }
  toString = () => `verify(${this.user})`;
}

export const DAMAGES = {
  total: `update microdollar_usage_daily
    set total_cost_microdollars = total_cost_microdollars + 7
    where kilo_user_id = $1 and usage_date <= '2025-03-03'`,
  row: `delete from microdollar_usage_daily
    where kilo_user_id = $1 and usage_date <= '2025-03-03'`,
  // Repair leaves the row of an orphan, with 0.
  orphan: `insert into microdollar_usage_daily as d (kilo_user_id, usage_date, total_cost_microdollars)
    values ($1, '2025-03-03', 9)
    on conflict (kilo_user_id, usage_date) where organization_id is null
    do update set total_cost_microdollars = d.total_cost_microdollars + 9`,
} as const;

/** Plants damage in the days of a user, repairs it, and finds the reports as they were. */
export class Repair implements Command {
  constructor(
    readonly user: number,
    readonly damage: keyof typeof DAMAGES,
  ) {}
  check = (model: Readonly<LedgerModel>) => !hasOpenSession(model) && !areLocksHeld(model);
  async run(_: LedgerModel, program: Program) {
    const { world, users } = program;
    const [jobs] = world.jobs;
    if (!jobs) throw new Error('no database');
    const kiloUserId = users[this.user] ?? '';
    await world.database.pool.query(DAMAGES[this.damage], [kiloUserId]);
    const report = await repairOn(jobs, { ...RANGE, kiloUserId }, 1);
    expect(report.left?.driftKeys ?? 0).toBe(0);
    await compareReports(program);
  }
  toString = () => `repair(${this.user}, ${this.damage})`;
}
