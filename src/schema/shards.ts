import { sql } from 'drizzle-orm';
import {
  boolean,
  check,
  integer,
  jsonb,
  pgTable,
  text,
  unique,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { instant } from './columns.js';

/** Payers hash to this many buckets, for ever: another number would tell other shards. */
export const SHARD_BUCKETS = 1_024;

/** Where a move of a payer, or of a bucket, stands (src/shards). */
export const MOVE_STEPS = ['copying', 'fenced', 'switched', 'cleaning'] as const;
export type MoveStep = (typeof MOVE_STEPS)[number];

/** Shards of the installation; used on the first of them, home. */
export const microdollarShards = pgTable('microdollar_shards', {
  name: text().primaryKey(),
  /** Whether the rule places buckets on it. */
  is_placing: boolean().notNull(),
  joined_at: instant().notNull().defaultNow(),
});

/**
 * Where payers are that are not where the rule places them; used on home. One payer's row beats that of its
 * bucket.
 */
export const microdollarShardDirectory = pgTable(
  'microdollar_shard_directory',
  {
    id: uuid().primaryKey().defaultRandom(),
    bucket: integer(),
    payer_scope: text().$type<'user' | 'organization'>(),
    payer_id: text(),
    /** Who has it now. */
    shard: text().notNull(),
    /** Until the switch. */
    moving_to: text(),
    /** From the switch until everything there is cleaned away. */
    moved_from: text(),
    /** Null: no move is under way. */
    step: text().$type<MoveStep>(),
    /** How far the step is, as the mover notes it. */
    progress: jsonb(),
    created_at: instant().notNull().defaultNow(),
    updated_at: instant().notNull().defaultNow(),
  },
  (t) => [
    unique('uq_microdollar_shard_directory_bucket').on(t.bucket),
    uniqueIndex('uq_microdollar_shard_directory_payer').on(t.payer_scope, t.payer_id),
    check(
      'microdollar_shard_directory_key',
      sql`(bucket is null) = (payer_scope is not null and payer_id is not null)
        and (payer_scope is null) = (payer_id is null)`,
    ),
    check('microdollar_shard_directory_bucket', sql`bucket >= 0 and bucket < 1024`),
    check('microdollar_shard_directory_payer_scope', sql`payer_scope in ('user', 'organization')`),
    check(
      'microdollar_shard_directory_step',
      sql`case
        when step in ('copying', 'fenced') then moving_to is not null
        when step in ('switched', 'cleaning') then moved_from is not null
        else step is null and moving_to is null and moved_from is null
      end`,
    ),
  ],
);
