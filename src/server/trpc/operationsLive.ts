import { z } from 'zod';
import { toSafeInteger } from '../../money.js';
import { readRows } from '../queries/rows.js';
import {
  MAX_UNPRICED,
  type UnpricedRow,
  unpricedUsageStatement,
} from '../queries/unpricedUsage.sql.js';
import { inputOf } from '../validation.js';
import { procedureFor } from './procedure.js';
import { onlyShard, shardInput, shardOf } from './shardOf.js';
import { countOf } from './usage.js';

export const readLive = procedureFor(
  'admin',
  'The write path of this server process: pending log, rates, latency.',
)
  .input(inputOf(onlyShard))
  .query(async ({ ctx, input }) => {
    const { operations } = await shardOf(ctx, input?.shard);
    const [status, series] = await Promise.all([ctx.readStatus(), operations.live.read()]);
    return {
      ...series,
      /** Null when the database did not answer. */
      pending: status.pending,
      database: status.database,
      pool: status.pool,
      version: status.version,
      uptimeSeconds: status.uptimeSeconds,
      events: status.events,
      rejections: status.rejections,
      /** Of the local journal; null: not in use. */
      journal: status.parts.journal ?? null,
      asOf: new Date().toISOString(),
    };
  });

const unpricedInput = z
  .strictObject({ limit: z.int().min(1).max(200).optional(), ...shardInput })
  .optional();

export const readUnpriced = procedureFor('admin', 'Usage that waits for a price, newest first.')
  .input(inputOf(unpricedInput))
  .query(async ({ ctx, input }) => {
    const { part } = await shardOf(ctx, input?.shard);
    const rows = await readRows<UnpricedRow>(
      part.readPool,
      unpricedUsageStatement(input?.limit ?? 20),
    );
    const total = toSafeInteger(rows[0]?.total ?? 0);
    return {
      total,
      /** There may be more than `total`. */
      isAtLeast: total >= MAX_UNPRICED,
      rows: rows.map((row) => ({
        id: row.id,
        createdAt: row.created_at,
        kiloUserId: row.kilo_user_id,
        organizationId: row.organization_id,
        provider: row.provider,
        model: row.model,
        inputTokens: countOf(row.input_tokens),
        outputTokens: countOf(row.output_tokens),
      })),
    };
  });
