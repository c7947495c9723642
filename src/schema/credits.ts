import { sql } from 'drizzle-orm';
import {
  bigint,
  check,
  index,
  integer,
  pgTable,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { instant, microdollarSum, microdollars } from './columns.js';

/** What a row of the ledger of credits is; see docs/adr/0011-credit-grants.md. */
export const CREDIT_KINDS = ['credit', 'expiry', 'expiry_correction'] as const;
export type CreditKind = (typeof CREDIT_KINDS)[number];

/**
 * The ledger of what a payer acquired: its sum is `total_microdollars_acquired`. Exactly one of user,
 * organization. A grant is a positive `credit`; what expires of one is a negative row that names it.
 */
export const creditTransactions = pgTable(
  'credit_transactions',
  {
    id: uuid().primaryKey().defaultRandom(),
    kilo_user_id: text(),
    organization_id: uuid(),
    amount_microdollars: microdollars().notNull(),
    description: text(),
    created_at: instant().notNull().defaultNow(),
    kind: text().notNull().default('credit'),
    /** Of a grant: usage of this time or later is not paid by it. Null: never expires. */
    expires_at: instant(),
    /** Of grants that expire together, the lower is used first. */
    priority: integer().notNull().default(0),
    /** The grant that expired. */
    grant_id: uuid(),
    /** Order of a payer's rows: each is written under the lock of the payer's row. */
    sequence: bigint({ mode: 'bigint' }).notNull().generatedAlwaysAsIdentity(),
    /**
     * What the payer had used by then, without the late usage that expired grants paid. Null: from before
     * there was this column.
     */
    used_microdollars: microdollarSum(),
  },
  (t) => [
    index('idx_credit_transactions_kilo_user_id').on(t.kilo_user_id),
    index('idx_credit_transactions_organization_id').on(t.organization_id),
    uniqueIndex('uq_credit_transactions_expiry').on(t.grant_id).where(sql`${t.kind} = 'expiry'`),
    check(
      'credit_transactions_kind',
      sql.raw(`kind in (${CREDIT_KINDS.map((kind) => `'${kind}'`).join(', ')})
        and (kind = 'credit') = (grant_id is null)`),
    ),
    check(
      'credit_transactions_expires_at',
      sql.raw(`expires_at is null or (kind = 'credit' and amount_microdollars > 0)`),
    ),
  ],
);

/**
 * One row for each grant that expires: where its expiry stands. Written only under the lock of the payer's
 * row, and on no path of usage.
 */
export const creditExpiries = pgTable(
  'credit_expiries',
  {
    grant_id: uuid().primaryKey(),
    /** `user` or `organization`, as in `rollup_marks`. */
    payer_scope: text().notNull(),
    payer_id: text().notNull(),
    expires_at: instant().notNull(),
    /** When there may be something to do. */
    look_at: instant().notNull(),
    /** What was left of the grant at its expiry. Null: it has not expired. */
    left_microdollars: microdollars(),
    /** Of that, spent by usage from before the expiry that was recorded after it. */
    late_microdollars: microdollars().notNull().default(0),
    /**
     * What grants that expired earlier had paid of such usage when this one expired, and such usage that was
     * counted since, below the mark.
     */
    late_before_microdollars: microdollarSum().notNull().default(0),
    /** Usage past this mark was recorded after the last look at the expiry (src/counter/README.md). */
    counted_below: bigint({ mode: 'bigint' }),
    counted_except: bigint({ mode: 'bigint' }).array().notNull().default(sql`'{}'`),
    /** Nothing about it changes any more. */
    closed_at: instant(),
  },
  (t) => [
    index('idx_credit_expiries_payer').on(t.payer_scope, t.payer_id),
    index('idx_credit_expiries_look_at').on(t.look_at).where(sql`${t.closed_at} is null`),
    check(
      'credit_expiries_late',
      sql.raw('late_microdollars between 0 and coalesce(left_microdollars, 0)'),
    ),
  ],
);
