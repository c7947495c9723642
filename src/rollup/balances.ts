import { COUNTER_LIMIT } from '../counter/marks.sql.js';
import { sqlStateOf } from '../db/sqlstate.js';
import type { Statement } from '../db/statement.js';
import { toExactInteger } from '../money.js';
import { openRollupDatabase, type RollupDatabase, requireWritable } from './database.js';
import { auditStatement } from './rebuild.sql.js';

/**
 * Proof of balances (I5): recomputes what every payer has used from its declared sources
 *
 *   opening + sum of the payer's raw `cost` + archived cost + Exa charged (from the exact totals)
 *
 * and compares with the reported balance, block by block, each in one snapshot, with a checkpoint
 * after each, so that a proof that was stopped goes on. An adopted payer whose opening is not known
 * yet (null) gets it derived here: what its row says minus what the sources say.
 */
export type BalanceScope = 'kilocode_users' | 'organizations';

export interface BalanceDrift {
  scope: BalanceScope;
  id: string;
  /** Bigints past 2^53, as the two below. */
  reportedMicrodollars: number | bigint;
  trueMicrodollars: number | bigint;
  /** Reported minus true, microdollars. */
  driftMicrodollars: number | bigint;
}

export interface BalanceReport {
  checked: number;
  drifted: number;
  repaired: number;
  /** Adopted payers whose opening balance was derived. */
  opened: number;
  /** Adopted payers whose opening balance is not known yet. */
  unopened: number;
  /** The first `MAX_DRIFTS`. */
  drifts: BalanceDrift[];
}

export interface BalanceOptions {
  url: string;
  repair?: boolean;
  /** Only this payer. */
  id?: string;
  /** Go on from the last checkpoint. Default false: from the start. */
  resume?: boolean;
  signal?: AbortSignal;
  onProgress?: (scope: BalanceScope, checked: number) => void;
}

const MAX_DRIFTS = 1_000;
const MAX_BLOCK = 1_000;
const TARGET_MS = 500;
/**
 * For one payer's whole history, however long. It reads, and at most holds the payer's row, which
 * no usage write waits for (I4).
 */
const ONE_PAYER = { statementTimeoutMs: 30 * 60_000 } as const;

interface SourceSql {
  table: BalanceScope;
  idType: 'text' | 'uuid';
  balanceView: string;
  viewKey: string;
  /** Condition that a source row `s` belongs to payer `t`. */
  belongs: (alias: string) => string;
}

const SOURCES: readonly SourceSql[] = [
  {
    table: 'kilocode_users',
    idType: 'text',
    balanceView: 'kilocode_user_balances',
    viewKey: 'kilo_user_id',
    belongs: (alias) => `${alias}.kilo_user_id = t.id and ${alias}.organization_id is null`,
  },
  {
    table: 'organizations',
    idType: 'uuid',
    balanceView: 'organization_balances',
    viewKey: 'organization_id',
    belongs: (alias) => `${alias}.organization_id = t.id`,
  },
];

/** The declared sources of a balance except the opening, as one expression on payer `t`. */
function sourcesSql(source: SourceSql): string {
  return `((
    select coalesce(sum(s.cost), 0) from microdollar_usage as s where ${source.belongs('s')}
  ) + (
    select coalesce(sum(s.archived_cost_microdollars), 0)
    from microdollar_usage_daily as s
    where ${source.belongs('s')}
      and s.archived_cost_microdollars <> 0
  ) + (
    select coalesce(sum(s.total_charged_microdollars), 0)
    from exa_monthly_usage_exact as s
    where ${source.belongs('s')}
  ))`;
}

export async function verifyBalances(options: BalanceOptions): Promise<BalanceReport> {
  const database = openRollupDatabase(options.url, 2);
  const report: BalanceReport = {
    checked: 0,
    drifted: 0,
    repaired: 0,
    opened: 0,
    unopened: 0,
    drifts: [],
  };
  try {
    if (options.repair) await requireWritable(database.query);
    for (const source of SOURCES) await verifyScope(database, source, options, report);
    return report;
  } finally {
    await database.close();
  }
}

interface BlockRow {
  id: string;
  opening: string | null;
  reported: string;
  sources: string;
}

async function verifyScope(
  database: RollupDatabase,
  source: SourceSql,
  options: BalanceOptions,
  report: BalanceReport,
): Promise<void> {
  let after: string | null = options.resume ? await readCheckpoint(database, source) : null;
  let limit = options.id === undefined ? 100 : 1;
  const counts = { checked: 0, drifted: 0 };
  while (!options.signal?.aborted) {
    const startedAt = performance.now();
    const condition =
      options.id === undefined
        ? `($1::${source.idType} is null or id > $1::${source.idType})`
        : 'id::text = $1::text';
    const block: Statement = {
      name: `microdollar_verify_balances_${source.table}`,
      text: `/* microdollar.verifyBalances */
select t.id::text as id, t.opening_microdollars_used as opening,
  (select b.microdollars_used from ${source.balanceView} as b
    where b.${source.viewKey} = t.id) as reported,
  ${sourcesSql(source)} as sources
from (
  select id, opening_microdollars_used
  from ${source.table}
  where ${condition}
  order by id
  limit $2::integer
) as t
order by t.id`,
      values: [options.id ?? after, limit],
    };
    const rows: BlockRow[] | null = await readBlock(database, block, limit);
    if (rows === null) {
      limit = Math.max(1, Math.floor(limit / 4));
      continue;
    }
    for (const row of rows) await checkRow(database, source, options, report, row, counts);
    report.checked += rows.length;
    counts.checked += rows.length;
    after = rows.at(-1)?.id ?? after;
    options.onProgress?.(source.table, report.checked);
    if (options.id !== undefined) return;
    const isLast = rows.length < limit;
    await saveCheckpoint(database, source, isLast ? null : after, counts, isLast);
    if (isLast) return;
    const durationMs = performance.now() - startedAt;
    limit =
      durationMs > TARGET_MS
        ? Math.max(1, Math.floor(limit / 2))
        : Math.min(MAX_BLOCK, Math.ceil(limit * 1.5));
  }
}

/** Null when the block is too large for its time; one payer alone gets the time that it takes. */
async function readBlock(
  database: RollupDatabase,
  block: Statement,
  limit: number,
): Promise<BlockRow[] | null> {
  try {
    return await database.query<BlockRow>(block);
  } catch (error) {
    if (sqlStateOf(error) !== '57014') throw error;
    if (limit > 1) return null;
    return await database.transaction((query) => query<BlockRow>(block), ONE_PAYER);
  }
}

async function checkRow(
  database: RollupDatabase,
  source: SourceSql,
  options: BalanceOptions,
  report: BalanceReport,
  row: BlockRow,
  counts: { drifted: number },
): Promise<void> {
  if (row.opening === null) {
    if (options.repair && (await deriveOpening(database, source, row.id))) report.opened++;
    else report.unopened++;
    return;
  }
  const truth = BigInt(row.opening) + BigInt(row.sources);
  const drift = BigInt(row.reported) - truth;
  if (drift === 0n) return;
  counts.drifted++;
  report.drifted++;
  if (report.drifts.length < MAX_DRIFTS) {
    report.drifts.push({
      scope: source.table,
      id: row.id,
      reportedMicrodollars: toExactInteger(row.reported),
      trueMicrodollars: toExactInteger(truth),
      driftMicrodollars: toExactInteger(drift),
    });
  }
  if (options.repair && (await repairBalance(database, source, row.id))) report.repaired++;
}

/**
 * Sets a payer's row so that its reported balance is true. Under the payer's row lock nobody
 * drains its pending rows or adds in place, and a new statement sees everything committed before,
 * so row = opening + sources - (reported - row). What no row can hold stays, named as drift (I12).
 */
async function repairBalance(
  database: RollupDatabase,
  source: SourceSql,
  id: string,
): Promise<boolean> {
  return await database.transaction(async (query) => {
    const locked = await query({
      name: `microdollar_lock_payer_${source.table}`,
      text: `/* microdollar.lockPayer */
select id from ${source.table} where id = $1::${source.idType} for no key update skip locked`,
      values: [id],
    });
    if (locked.length === 0) return false;
    const rows = await query<{ before: string; after: string }>({
      name: `microdollar_repair_balance_${source.table}`,
      text: `/* microdollar.repairBalance */
with truth as materialized (
  select t.id, b.microdollars_used as before,
    t.opening_microdollars_used + ${sourcesSql(source)} as after
  from ${source.table} as t
  join ${source.balanceView} as b on b.${source.viewKey} = t.id
  where t.id = $1::${source.idType}
)
update ${source.table} as u
set microdollars_used = u.microdollars_used + truth.after - truth.before
from truth
where u.id = truth.id
  and truth.after <> truth.before
  and abs(u.microdollars_used + truth.after - truth.before) < ${COUNTER_LIMIT}
returning truth.before, truth.after`,
      values: [id],
    });
    if (rows.length === 0) return false;
    const isUser = source.table === 'kilocode_users';
    await query(
      auditStatement(
        source.table,
        rows.map((row) => ({
          kilo_user_id: isUser ? id : null,
          organization_id: isUser ? null : id,
          period: null,
          before: row.before,
          after: row.after,
        })),
        rows.map(() => 'balance differs from its sources'),
      ),
    );
    return true;
  }, ONE_PAYER);
}

/** An adopted payer's opening balance, under its row lock; see repairBalance. */
async function deriveOpening(
  database: RollupDatabase,
  source: SourceSql,
  id: string,
): Promise<boolean> {
  return await database.transaction(async (query) => {
    const locked = await query({
      name: `microdollar_lock_adopted_${source.table}`,
      text: `/* microdollar.lockAdoptedPayer */
select id
from ${source.table}
where id = $1::${source.idType}
  and opening_microdollars_used is null
for no key update skip locked`,
      values: [id],
    });
    if (locked.length === 0) return false;
    const derived = await query({
      name: `microdollar_derive_opening_${source.table}`,
      text: `/* microdollar.deriveOpening */
update ${source.table} as u
set opening_microdollars_used = truth.opening
from (
  select t.id, b.microdollars_used - ${sourcesSql(source)} as opening
  from ${source.table} as t
  join ${source.balanceView} as b on b.${source.viewKey} = t.id
  where t.id = $1::${source.idType}
) as truth
where u.id = truth.id
  and abs(truth.opening) < ${COUNTER_LIMIT}
returning u.id`,
      values: [id],
    });
    return derived.length > 0;
  }, ONE_PAYER);
}

async function readCheckpoint(database: RollupDatabase, source: SourceSql): Promise<string | null> {
  const [row] = await database.query<{ done_until: string | null }>({
    name: 'microdollar_read_balance_checkpoint',
    text: `/* microdollar.readBalanceCheckpoint */
select done_until from balance_checks where scope = $1::text`,
    values: [source.table],
  });
  return row?.done_until ?? null;
}

async function saveCheckpoint(
  database: RollupDatabase,
  source: SourceSql,
  doneUntil: string | null,
  counts: { checked: number; drifted: number },
  isFinished: boolean,
): Promise<void> {
  await database
    .query({
      name: 'microdollar_save_balance_checkpoint',
      text: `/* microdollar.saveBalanceCheckpoint */
insert into balance_checks as c (scope, done_until, checked, drifted, started_at, finished_at)
values ($1::text, $2::text, $3::bigint, $4::bigint, now(), case when $5::boolean then now() end)
on conflict (scope) do update
set done_until = excluded.done_until,
  checked = excluded.checked,
  drifted = excluded.drifted,
  started_at = case when c.finished_at is null then c.started_at else now() end,
  finished_at = excluded.finished_at`,
      values: [source.table, doneUntil, counts.checked, counts.drifted, isFinished],
    })
    .catch((error: { code?: string }) => {
      // On a replica, or as a reader, a proof leaves no checkpoint.
      if (error.code !== '25006' && error.code !== '42501') throw error;
    });
}
