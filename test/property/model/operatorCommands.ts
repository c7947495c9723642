import { expect } from 'vitest';
import { repairRollup } from '../../../src/rollup/repair.js';
import { verifyRollup } from '../../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../../src/schema/rollups.js';
import type { Command } from './command.js';
import { areLocksHeld, hasOpenSession, type LedgerModel } from './ledgerModel.js';
import { compareReports, type Program } from './world.js';

const RANGE = { rollup: DAILY_ROLLUP, from: '2025-02-01', until: '2025-04-30', workers: 1 };

/** Finds nothing, whatever is in flight, pending or locked. */
export class Verify implements Command {
  constructor(readonly user: number) {}
  check = () => true;
  async run(_: LedgerModel, { world, users }: Program) {
    const kiloUserId = users[this.user] ?? '';
    const { drifts } = await verifyRollup({ ...RANGE, url: world.database.url, kiloUserId });
    expect(drifts).toEqual([]);
  }
  toString = () => `verify(${this.user})`;
}

export const DAMAGES = {
  total: `update microdollar_usage_daily
    set total_cost_microdollars = total_cost_microdollars + 7
    where kilo_user_id = $1`,
  row: 'delete from microdollar_usage_daily where kilo_user_id = $1',
  orphan: `insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
    values ($1, '2025-04-15', 9)`,
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
    const { pool, url } = world.database;
    const kiloUserId = users[this.user] ?? '';
    await pool.query(DAMAGES[this.damage], [kiloUserId]);
    const report = await repairRollup({ rollup: DAILY_ROLLUP, workers: 1, url, kiloUserId });
    expect(report.left?.driftKeys ?? 0).toBe(0);
    await compareReports(program);
  }
  toString = () => `repair(${this.user}, ${this.damage})`;
}
