import { z } from 'zod';
import { LedgerError } from '../../errors.js';
import { toJsonInteger } from '../../money.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import {
  type DriftingDayRow,
  driftingDaysStatement,
  type RepairRow,
  recentRepairsStatement,
} from '../queries/drift.sql.js';
import { readRows } from '../queries/rows.js';
import { checkDayRange, day, inputOf } from '../validation.js';
import { procedureFor } from './procedure.js';
import { onlyShard, shardInput, shardOf } from './shardOf.js';

const range = z.strictObject({
  from: day,
  /** Inclusive. */
  until: day,
  ...shardInput,
});

const MAX_DRIFTING_DAYS = 100;
const MAX_REPAIRS = 20;

export const readDrift = procedureFor(
  'admin',
  "Days known to be wrong, this server's last verification or repair, and the last " +
    'corrections.',
)
  .input(inputOf(onlyShard))
  .query(async ({ ctx, input }) => {
    const { part, operations } = await shardOf(ctx, input?.shard);
    const { pool } = part;
    // Before the days: where it says that a job has ended, they are those that it left.
    const job = operations.proof.state;
    const [days, repairs] = await Promise.all([
      readRows<DriftingDayRow>(pool, driftingDaysStatement(DAILY_ROLLUP.name, MAX_DRIFTING_DAYS)),
      readRows<RepairRow>(pool, recentRepairsStatement(MAX_REPAIRS)),
    ]);
    return {
      days: days.map((row) => ({
        day: row.period,
        driftKeys: row.drift_keys,
        driftMicrodollars: toJsonInteger(row.drift_microdollars),
      })),
      job,
      repairs: repairs.map((row) => ({
        id: row.id,
        counter: row.counter,
        kiloUserId: row.kilo_user_id,
        organizationId: row.organization_id,
        day: row.period,
        beforeMicrodollars: toJsonInteger(row.before_microdollars),
        afterMicrodollars: toJsonInteger(row.after_microdollars),
        cause: row.cause,
        repairedAt: row.repaired_at,
      })),
    };
  });

export const verifyRange = proofProcedure(
  'verify',
  'Starts a verification of a range; `operations.drift` tells how it goes and what it found.',
);

export const repairRange = proofProcedure(
  'repair',
  'Starts a repair of what a range shows wrong; recorded in `rollup_repairs`.',
);

function proofProcedure(kind: 'verify' | 'repair', about: string) {
  return procedureFor('admin', about)
    .input(inputOf(range))
    .mutation(async ({ ctx, input: { shard, ...input } }) => {
      checkDayRange(input.from, input.until);
      if (input.until > new Date().toISOString().slice(0, 10)) {
        throw new LedgerError('invalid_request', 'until lies in the future', {
          details: { field: 'until' },
        });
      }
      const { operations } = await shardOf(ctx, shard);
      operations.proof.start({ kind, ...input });
      ctx.request.log.info({ kind, ...input, shard, keyId: ctx.principal.keyId }, 'proof started');
      return { started: true };
    });
}
