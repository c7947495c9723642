import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  index,
  integer,
  pgTable,
  primaryKey,
  text,
  unique,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { instant, microdollarSum, microdollars } from './columns.js';

/** Who or what is limited. A balance is the `user` or `organization` budget with `is_balance`. */
export const BUDGET_SCOPES = ['user', 'organization', 'member', 'key', 'project'] as const;
export type BudgetScope = (typeof BUDGET_SCOPES)[number];

/** How long a window is: calendar periods of the budget's time zone, or all time. */
export const BUDGET_PERIODS = ['day', 'week', 'month', 'total'] as const;
export type BudgetPeriod = (typeof BUDGET_PERIODS)[number];

/**
 * Who set a budget: an administrator; an owner of the organization that pays; the user whose usage
 * alone it counts. Each has one of their own for the same thing, and the lowest of them refuses first.
 */
export const BUDGET_SETTERS = ['admin', 'owner', 'user'] as const;
export type BudgetSetter = (typeof BUDGET_SETTERS)[number];

/** Rows of `headroom` a window has: so many can be reserved from at once. */
export const SLOTS = 8;

/** `expires_at` of a row of `usage_holds` that is none: what is to be given back, and what was spent. */
export const FORWARDED = `'-infinity'::timestamptz`;

/** Name of the mark of budgets in `rollup_marks`; the lock of a payer's windows. */
export const BUDGETS_MARK = 'budgets';

const quoted = (values: readonly string[]) => values.map((value) => `'${value}'`).join(', ');

/**
 * Limits. A budget belongs to a payer, and counts its usage; the narrowing columns say which of it,
 * null = all. One of a key counts what the key uses, whoever pays. Its state is in `budget_windows`.
 * Removed ones stay, for what names them.
 */
export const budgets = pgTable(
  'budgets',
  {
    id: uuid().primaryKey().defaultRandom(),
    scope: text().notNull(),
    /** `user` or `organization`, as in `rollup_marks`. */
    payer_scope: text().notNull(),
    payer_id: text().notNull(),
    kilo_user_id: text(),
    api_key_id: uuid(),
    project_id: text(),
    period: text().notNull(),
    /** IANA name. */
    time_zone: text().notNull().default('UTC'),
    /** Of a balance unused: its limit is what the payer acquired. */
    limit_microdollars: microdollars().notNull(),
    /** A soft one is counted and shown, and refuses nothing. */
    is_hard: boolean().notNull().default(true),
    is_balance: boolean().notNull().default(false),
    /** Added to the limit until then. */
    raise_microdollars: microdollars().notNull().default(0),
    raise_until: instant(),
    created_by: text(),
    /** One of `BUDGET_SETTERS`: nobody else but an administrator changes it. */
    set_by: text().notNull().default('admin'),
    created_at: instant().notNull().defaultNow(),
    updated_at: instant().notNull().defaultNow(),
    removed_at: instant(),
  },
  (t) => [
    uniqueIndex('uq_budgets_in_force')
      .on(
        t.payer_scope,
        t.payer_id,
        t.scope,
        t.period,
        t.is_balance,
        sql`coalesce(kilo_user_id, '')`,
        sql`coalesce(api_key_id::text, '')`,
        sql`coalesce(project_id, '')`,
        t.set_by,
      )
      .where(sql`${t.removed_at} is null`),
    index('idx_budgets_key')
      .on(t.api_key_id)
      .where(sql`${t.api_key_id} is not null and ${t.removed_at} is null`),
    check('budgets_scope', sql.raw(`scope in (${quoted(BUDGET_SCOPES)})`)),
    check('budgets_payer_scope', sql.raw(`payer_scope in ('user', 'organization')`)),
    check('budgets_period', sql.raw(`period in (${quoted(BUDGET_PERIODS)})`)),
    check('budgets_set_by', sql.raw(`set_by in (${quoted(BUDGET_SETTERS)})`)),
    check('budgets_limit', sql.raw('limit_microdollars >= 0 and raise_microdollars >= 0')),
  ],
);

/**
 * One period of a budget. Written only by who holds the payer's mark (`BUDGETS_MARK`). In every
 * snapshot (I13): limit = spent + carry + sum of its headroom + sum of the holds that name it.
 */
export const budgetWindows = pgTable(
  'budget_windows',
  {
    id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    budget_id: uuid().notNull(),
    window_start: instant().notNull(),
    /** `infinity` of a total. */
    window_end: instant().notNull(),
    /** As it is accounted for: what the budget says now is taken in by the next fold. */
    limit_microdollars: microdollars().notNull(),
    /** Usage up to the mark; of a balance also Exa and what was used before. */
    spent_microdollars: microdollarSum().notNull(),
    /** Not distributed to the slots; negative: spent or lowered past what was left. */
    carry_microdollars: microdollarSum().notNull(),
  },
  (t) => [unique('uq_budget_windows').on(t.budget_id, t.window_start)],
);

/** What can be reserved of a window, in slots: whoever reserves takes from one that is free. */
export const headroom = pgTable(
  'headroom',
  {
    window_id: bigint({ mode: 'number' }).notNull(),
    /** 0 to `SLOTS` - 1. */
    slot: integer().notNull(),
    remaining_microdollars: microdollars().notNull().default(0),
  },
  (t) => [
    primaryKey({ columns: [t.window_id, t.slot] }),
    check('headroom_remaining', sql.raw('remaining_microdollars >= 0')),
  ],
);

/**
 * Amounts that are reserved for a request. `id` is the id of its usage row: a hold is closed when
 * that exists, or when it was released. The fold that counts the row takes the hold away. What it learns
 * of windows of others, which only their own fold may write, it leaves here for that one (`FORWARDED`).
 */
export const usageHolds = pgTable(
  'usage_holds',
  {
    id: uuid().primaryKey(),
    payer_scope: text().notNull(),
    payer_id: text().notNull(),
    kilo_user_id: text().notNull(),
    api_key_id: uuid(),
    project_id: text(),
    amount_microdollars: microdollars().notNull(),
    /** Of what was forwarded: usage that another payer's fold has counted. */
    spent_microdollars: microdollarSum().notNull().default(0),
    /** What it was taken from; empty once it was given back, and kept a day for late usage. */
    window_ids: bigint({ mode: 'number' }).array().notNull(),
    /** Of `gateway_instances`: while it lives the hold does not expire. Null: held over HTTP. */
    owner: uuid(),
    expires_at: instant().notNull(),
    released_at: instant(),
    /** The usage row's time, unless it says another. */
    created_at: instant().notNull().defaultNow(),
  },
  (t) => [
    index('idx_usage_holds_payer')
      .on(t.payer_scope, t.payer_id)
      .where(sql`${t.window_ids} <> '{}'`),
    check('usage_holds_amount', sql.raw('amount_microdollars >= 0')),
  ],
);
