import { z } from 'zod';
import { openRollupDatabase } from '../../rollup/database.js';
import { readReadMode, setReadMode } from '../../rollup/readMode.js';
import { compareUsers } from '../operations/compareUsers.js';
import { queryRows } from '../queries/rows.js';
import { inputOf } from '../validation.js';
import { procedureFor } from './procedure.js';
import { onlyShard, shardInput, shardOf } from './shardOf.js';

const compared = z.strictObject({ users: z.int().min(1).max(500), ...shardInput });
const wanted = z.strictObject({ mode: z.enum(['raw', 'shadow', 'rollup']), ...shardInput });

export const readMode = procedureFor(
  'admin',
  'The stored read mode, what reads use, and what is still unproven.',
)
  .input(inputOf(onlyShard))
  .query(async ({ ctx, input }) => {
    const { part } = await shardOf(ctx, input?.shard);
    return readReadMode(queryRows(part.pool));
  });

export const switchReadMode = procedureFor(
  'admin',
  'Switches the read mode. `rollup` is refused (`unproven_window`) while the gate is ' +
    'shut; again is fine.',
)
  .input(inputOf(wanted))
  .mutation(async ({ ctx, input }) => {
    const { operations } = await shardOf(ctx, input.shard);
    const { url, viaPooler } = operations.database;
    const database = openRollupDatabase(url, 1, { viaPooler });
    try {
      const status = await setReadMode(database, input.mode);
      ctx.request.log.info(
        { mode: input.mode, shard: input.shard, keyId: ctx.principal.keyId },
        'read mode switched',
      );
      return status;
    } finally {
      await database.close();
    }
  });

export const compareReads = procedureFor(
  'admin',
  'Compares raw usage with the rollup for random users with recent usage, now.',
)
  .input(inputOf(compared))
  .mutation(async ({ ctx, input }) => {
    const { operations } = await shardOf(ctx, input.shard);
    const { url, viaPooler } = operations.database;
    const database = openRollupDatabase(url, 1, { viaPooler });
    try {
      const { comparisons, mismatches } = await compareUsers(database, input.users);
      return { comparisons, mismatches: mismatches.length };
    } finally {
      await database.close();
    }
  });
