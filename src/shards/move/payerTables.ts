import type { PayerScope } from '../../schema/unsettled.js';

/**
 * Every table, and what a move does with it. A payer's usage is copied while its writers go on, and counted
 * at the target by the target's own folds; its state travels with the switch; the rest is the ledger's.
 * test/unit/shardMoveTables.test.ts holds the list to the schema.
 */

/** Logs: copied by id, in pages. The metadata of usage goes with it. */
export const LOG_TABLES = [
  'microdollar_usage',
  'microdollar_usage_metadata',
  'exa_usage_log',
] as const;

/** Sums of the logs: the target's folds make them anew. What was archived is carried over. */
export const COUNTER_TABLES = [
  'microdollar_usage_daily',
  'microdollar_usage_daily_by_dimension',
  'microdollar_usage_daily_by_user',
  'microdollar_usage_quarter_hourly',
  'exa_monthly_usage',
] as const;

/** The payer itself: known on both shards, at home on one. */
export const PAYER_TABLES = ['kilocode_users', 'organizations'] as const;

/** Columns of a payer that are each shard's own. */
export const OWN_OF_PAYER: ReadonlySet<string> = new Set([
  'id',
  'is_elsewhere',
  'microdollars_used',
  'opening_microdollars_used',
  'settled_below',
  'settled_except',
  'exa_settled_below',
  'exa_settled_except',
  'scrub_after_xid',
]);

/** State of a payer: small, and as of one snapshot. */
export interface StateTable {
  name: string;
  /** Whether row `r` is of payer $1; null: the scope has none. */
  isOf(scope: PayerScope): string | null;
  /** Order in which they are written. */
  order?: string;
  /** A `jsonb` added to each row, for what means something else on another shard. */
  also?(scope: PayerScope): string;
}

/** The payer pays: the user for personal rows, the organization for its own. */
export const isPaidBy = (scope: PayerScope, row = 'r'): string =>
  scope.name === 'user'
    ? `${row}.kilo_user_id = $1::text and ${row}.organization_id is null`
    : `${row}.organization_id = $1::uuid`;

/** The row names the payer that it belongs to. */
export const isNamed = (scope: PayerScope, row = 'r'): string =>
  `${row}.payer_scope = '${scope.name}' and ${row}.payer_id = $1::text`;

/** Rows that name a row of `table`, which names the payer. */
const isBelow =
  (column: string, table: string) =>
  (scope: PayerScope): string =>
    `r.${column} in (select p.id from ${table} as p where ${isNamed(scope, 'p')})`;

const BUDGET_WINDOWS_OF = (scope: PayerScope): string =>
  `select w.id from budget_windows as w
      join budgets as b on b.id = w.budget_id
      where ${isNamed(scope, 'b')}`;

/** A window by what it is of: its id is another on each shard. */
const WINDOW_KEY = `jsonb_build_object('budget_id', w.budget_id, 'window_start', w.window_start)`;

/** Whether usage `m` is late for the expiry `e`: of before it, and recorded after it (ADR 11). */
export const isLateFor = (row: string, expiry: string): string =>
  `${row}.created_at < ${expiry}.expires_at
        and ${expiry}.closed_at is null
        and ${expiry}.left_microdollars is not null
        and (abs(${row}.position) >= ${expiry}.counted_below
          or abs(${row}.position) = any (${expiry}.counted_except))`;

/** In the order in which they are written; taken away in the reverse of it. */
export const STATE_TABLES: readonly StateTable[] = [
  { name: 'api_keys', isOf: isPaidBy },
  { name: 'credit_transactions', isOf: isPaidBy, order: 'r.sequence' },
  {
    name: 'credit_expiries',
    isOf: isNamed,
    also: (scope) => `jsonb_build_object('late_ids', array(
        select m.id
        from microdollar_usage as m
        where ${isPaidBy(scope, 'm')}
          and ${isLateFor('m', 'r')}
      ))`,
  },
  { name: 'budgets', isOf: isNamed },
  { name: 'budget_windows', isOf: isBelow('budget_id', 'budgets'), order: 'r.id' },
  {
    name: 'headroom',
    isOf: (scope) => `r.window_id in (${BUDGET_WINDOWS_OF(scope)})`,
    also: () => `(select ${WINDOW_KEY} from budget_windows as w where w.id = r.window_id)`,
  },
  {
    name: 'usage_holds',
    isOf: isNamed,
    also: () => `jsonb_build_object('windows', (
        select coalesce(jsonb_agg(${WINDOW_KEY} order by w.window_start, w.budget_id), '[]')
        from budget_windows as w
        where w.id = any (r.window_ids)
      ))`,
  },
  { name: 'usage_alerts', isOf: isNamed },
  { name: 'usage_alert_hours', isOf: isBelow('alert_id', 'usage_alerts') },
  { name: 'usage_alert_events', isOf: isBelow('alert_id', 'usage_alerts') },
  { name: 'usage_alert_webhooks', isOf: isNamed },
  {
    name: 'usage_alert_deliveries',
    isOf: (scope) => `r.event_id in (
      select e.id from usage_alert_events as e
      join usage_alerts as p on p.id = e.alert_id
      where ${isNamed(scope, 'p')})`,
    // Webhooks of everybody are each shard's own: told apart by where they lead.
    also: () => `jsonb_build_object('shared_url', (
        select h.url from usage_alert_webhooks as h where h.id = r.webhook_id and h.payer_id is null))`,
  },
  {
    name: 'organization_memberships',
    isOf: (scope) => (scope.name === 'user' ? null : 'r.organization_id = $1::uuid'),
  },
  { name: 'rollup_repairs', isOf: isPaidBy },
  {
    name: 'rollup_marks',
    isOf: (scope) => `${isNamed(scope)} and r.rollup = 'budgets'`,
  },
];

/** Tables of a ledger that no payer owns a row of, and why they stay. */
export const LEDGER_TABLES: Readonly<Record<string, string>> = {
  ledger_settings: 'of the database',
  microdollar_shards: 'of the installation',
  microdollar_shard_directory: 'of the installation; the move is noted in it',
  rollup_coverage: 'what is proven of a day, by all payers of the shard together',
  rollup_backfill: 'a job',
  balance_checks: 'a job',
  rollup_starts: 'where the log of this database begins',
  gateway_instances: 'processes that beat on this shard',
  gateway_intents: 'of the gateway, which looks for them where it put them: over shards on home',
  gateway_responses: 'of the gateway, as its intents',
  gateway_response_items: 'of the gateway, as its intents',
  http_user_agent: 'a lookup: metadata is translated by value',
  http_ip: 'a lookup',
  vercel_ip_city: 'a lookup',
  vercel_ip_country: 'a lookup',
  ja4_digest: 'a lookup',
  system_prompt_prefix: 'a lookup',
  finish_reason: 'a lookup',
  editor_name: 'a lookup',
  api_kind: 'a lookup',
  feature: 'a lookup',
  mode: 'a lookup',
  auto_model: 'a lookup',
};
