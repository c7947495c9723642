import { z } from 'zod';
import { toSafeInteger } from '../../money.js';
import { setBackfillPaused } from '../../rollup/backfill.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import { type BackfillStateRow, backfillStateStatement } from '../queries/backfillState.sql.js';
import { queryRows, readRows } from '../queries/rows.js';
import { day, inputOf } from '../validation.js';
import { procedureFor } from './procedure.js';
import { onlyShard, shardInput, shardOf } from './shardOf.js';

const request = z
  .strictObject({
    /** UTC days, inclusive. */
    from: day.optional(),
    until: day.optional(),
    workers: z.int().min(1).max(8).optional(),
    ...shardInput,
  })
  .optional();

/** A worker commits more often than this, unless it waits. */
const SILENT_MS = 15_000;

export const readBackfill = procedureFor(
  'admin',
  "The backfill of any process, from its row in the database; and this server's own, if " + 'any.',
)
  .input(inputOf(onlyShard))
  .query(async ({ ctx, input }) => {
    const { part, operations } = await shardOf(ctx, input?.shard);
    const [row] = await readRows<BackfillStateRow>(part.pool, backfillStateStatement(DAILY_ROLLUP));
    const job = operations.backfill.state;
    const now = row?.now ?? new Date().toISOString();
    const rowsDone = toSafeInteger(row?.rows_done ?? 0);
    const rowsExpected = toSafeInteger(row?.rows_expected ?? 0);
    const isFinished = row?.finished_at != null || row?.started_at == null;
    const silentMs = row?.heartbeat_at ? Date.parse(now) - Date.parse(row.heartbeat_at) : null;
    const isRunning = job.isRunning || (!isFinished && silentMs !== null && silentMs < SILENT_MS);
    const isPaused = row?.is_paused ?? false;
    const rate = operations.rowRate.observe(rowsDone, Date.parse(now));
    const rowsPerSecond = isRunning && !isPaused ? rate : null;
    const rowsLeft = rowsExpected - rowsDone;
    return {
      isRunning,
      isPaused,
      pausedAt: row?.paused_at ?? null,
      startedAt: row?.started_at ?? null,
      heartbeatAt: row?.heartbeat_at ?? null,
      finishedAt: row?.finished_at ?? null,
      rowsDone,
      /** The planner's estimate. */
      rowsExpected,
      rowsPerSecond,
      /** Null when it cannot be told. */
      etaSeconds:
        rowsPerSecond !== null && rowsPerSecond > 0 && rowsLeft > 0
          ? Math.round(rowsLeft / rowsPerSecond)
          : null,
      days: {
        unbuilt: toSafeInteger(row?.unbuilt ?? 0),
        building: toSafeInteger(row?.building ?? 0),
        built: toSafeInteger(row?.built ?? 0),
        verified: toSafeInteger(row?.verified ?? 0),
        archived: toSafeInteger(row?.archived ?? 0),
      },
      /** Days that a worker holds now. */
      claimedDays: toSafeInteger(row?.claimed ?? 0),
      job,
      asOf: now,
    };
  });

export const planBackfill = procedureFor(
  'admin',
  "What a backfill would do: days, and rows by the planner's estimate.",
)
  .input(inputOf(request))
  .query(async ({ ctx, input: { shard, ...asked } = {} }) => {
    const { operations } = await shardOf(ctx, shard);
    return operations.backfill.plan(asked);
  });

export const startBackfill = procedureFor(
  'admin',
  'Starts a backfill in the background of this server.',
)
  .input(inputOf(request))
  .mutation(async ({ ctx, input: { shard, ...asked } = {} }) => {
    const { operations } = await shardOf(ctx, shard);
    const plan = await operations.backfill.start(asked);
    ctx.request.log.info({ plan, shard, keyId: ctx.principal.keyId }, 'backfill started');
    return plan;
  });

export const pauseBackfill = pauseProcedure(
  true,
  'Pauses every worker in every process, between two chunks. Again is fine.',
);
export const resumeBackfill = pauseProcedure(false, 'Lets them go on. Again is fine.');

function pauseProcedure(isPaused: boolean, about: string) {
  return procedureFor('admin', about)
    .input(inputOf(onlyShard))
    .mutation(async ({ ctx, input }) => {
      const { part } = await shardOf(ctx, input?.shard);
      await setBackfillPaused({ query: queryRows(part.pool) }, DAILY_ROLLUP, isPaused);
      ctx.request.log.info(
        { isPaused, shard: input?.shard, keyId: ctx.principal.keyId },
        'backfill switched',
      );
      return { isPaused };
    });
}
