import type pg from 'pg';
import type { BudgetFolder } from '../../budgets/folder.js';
import { type Query, queryOn } from '../../db/query.js';
import { inTransaction } from '../../db/transaction.js';
import { LedgerError } from '../../errors.js';
import { counterId, QUARTER_HOURLY } from '../../schema/dimensionRollups.js';
import {
  ARCHIVED_ROLLUPS,
  addArchivedStatement,
  findUnfrozenStatement,
  openArchivedDaysStatement,
  readArchivedStatement,
  setArchivedDaysStatement,
} from './archived.sql.js';
import type { Columns } from './columns.js';
import { notKept } from './fitting.js';
import { ALIVE, mayIdle, whileAlive } from './moveRow.js';
import {
  clearAcquiredStatement,
  deleteStateStatements,
  findLimitedKeysStatement,
  findSharedWebhooksStatement,
  forwardHeldStatement,
  lockPayerStatements,
  type PayerStateRow,
  PRESENT_MARK,
  type PresentMark,
  type ReportedRow,
  readStateStatement,
  reportedStatement,
  settlePayerHereStatement,
  writeStateStatement,
} from './state.sql.js';
import { keyOf, type MovedPayer, type MovePoint, type MoveShard } from './types.js';
import { knowUsersStatement } from './writeRows.sql.js';

/** What a shard has of a payer beside its logs, in one snapshot. */
interface PayerState extends PayerStateRow {
  reported: ReportedRow;
  /** By rollup, JSON text. */
  archived: string[];
}

export interface HandOverOptions {
  payer: MovedPayer;
  from: MoveShard;
  to: MoveShard;
  columns: Columns;
  /**
   * Notes the switch after `write`, in one transaction that has locked the directory's row before it, and
   * has it by `stays` still.
   */
  switchAfter: (write: (stays: () => Promise<void>) => Promise<void>) => Promise<void>;
  /** After which servers take the mover for dead. */
  silentMs: number;
  onPoint: (point: MovePoint) => Promise<void>;
}

/**
 * Under the fence, with every row copied: the rest of the payer goes over, and the switch is noted.
 *
 *   source  one transaction, REPEATABLE READ: payer and marks locked, so that no fold, expiry or delivery
 *           changes what is read; what windows of others have held, and others of the payer's, left for their
 *           folds; state read, and taken away
 *   home    one transaction: the move's row locked, if it is as this mover left it
 *   target  one transaction: payer and marks locked, and the move's row still; state of an earlier try taken
 *           away, state written, what was archived added, the payer at home; then both must report the same
 *   home    the switch, commit
 *   source  commit
 *
 * A kill before the switch leaves the state at the source, and it is done again; after it, the cleaning takes
 * it away.
 *
 * So it is where the source's session alone is lost before home commits: its locks save retries, and nothing
 * rests on them. The fence was committed, and what had an older snapshot had ended, before this snapshot:
 * whoever writes at the source refuses the payer by a later one, or by its locked row (credits, expiries).
 * Nobody lifts it without the move's row, which is home's until its commit (M9, M10). Folds there have
 * nothing left to count (`is_budgeted`); what they distribute, or give back to others' windows, stays there.
 * @returns false: the budgets have not counted everything yet
 */
export async function handOver(options: HandOverOptions): Promise<boolean> {
  const { payer, from, to, switchAfter, silentMs, onPoint } = options;
  return await inTransaction<boolean>(
    from.pool,
    async (client) => {
      const query = queryOn(client, true);
      for (const statement of lockPayerStatements(payer.scope, payer.id)) await query(statement);
      await query(forwardHeldStatement(payer.scope, payer.id));
      const state = await readState(query, payer);
      if (!state.is_budgeted) return false;
      for (const statement of deleteStateStatements(payer.scope, payer.id)) await query(statement);
      await query(clearAcquiredStatement(payer.scope, payer.id));
      await onPoint('read');
      await switchAfter(async (stays) => {
        await inTransaction(to.pool, (target) =>
          write(target, state, options, { stays, source: query }),
        );
        await onPoint('written');
      });
      await onPoint('switched');
      return true;
    },
    {
      begin: `begin isolation level repeatable read; ${mayIdle(silentMs)}`,
      keep: (isDone) => isDone,
    },
  );
}

async function readState(query: Query, payer: MovedPayer): Promise<PayerState> {
  const [row] = await query<PayerStateRow>(readStateStatement(payer.scope, payer.id));
  const [reported] = await query<ReportedRow>(reportedStatement(payer.scope, payer.id));
  if (!row || !reported) throw new LedgerError('internal', `${keyOf(payer)} is gone`);
  return { ...row, reported, archived: await readArchived(query, payer) };
}

/** Before it: the payer's budgets, and what others who pay for keys that they limit have used of these. */
export async function foldBudgets(
  folder: BudgetFolder,
  source: Query,
  { scope, id }: MovedPayer,
): Promise<void> {
  const keys = await source<{ id: string }>(findLimitedKeysStatement(scope, id));
  const limited = { windowIds: [], keys: keys.map((key) => key.id) };
  for (const payer of await folder.involvedIn(scope, id, limited)) {
    await folder.foldFor(payer.scope, payer.id, 0);
  }
}

/** What the archive took, by rollup. */
async function readArchived(query: Query, { scope, id }: MovedPayer): Promise<string[]> {
  const archived: string[] = [];
  for (const rollup of ARCHIVED_ROLLUPS) {
    const [row] = await query<{ archived: string }>(readArchivedStatement(rollup, scope, id));
    archived.push(row?.archived ?? '[]');
  }
  return archived;
}

async function write(
  client: pg.PoolClient,
  state: PayerState,
  options: HandOverOptions,
  { stays, source }: { stays: () => Promise<void>; source: Query },
): Promise<void> {
  const { payer, silentMs } = options;
  const query = queryOn(client, true);
  for (const statement of lockPayerStatements(payer.scope, payer.id)) await query(statement);
  await stays();
  const beats = [stays, () => source(ALIVE)];
  await whileAlive(silentMs, beats, () => writeLocked(query, state, options));
}

async function writeLocked(
  query: Query,
  { state, users, payer: row, archived_days: days, archived, reported }: PayerState,
  { payer, from, to, columns }: HandOverOptions,
): Promise<void> {
  const { scope, id } = payer;
  for (const statement of deleteStateStatements(scope, id)) await query(statement);
  await query(knowUsersStatement(users));
  const [mark] = await query<PresentMark>(PRESENT_MARK);
  if (!mark) throw new Error('a mark is one row');
  const [lost] = await query<{ name: string }>(writeStateStatement(scope, state, mark, columns));
  if (lost) throw notKept(payer, to.name, lost.name);
  if (days !== '[]') await query(openArchivedDaysStatement(days));
  await query(setArchivedDaysStatement(scope, id, days));
  for (const [index, rollup] of ARCHIVED_ROLLUPS.entries()) {
    const given = archived[index] ?? '[]';
    if (given === '[]') continue;
    await query(addArchivedStatement(rollup, scope, id, given, counterId(rollup, 'p')));
  }
  const moved = await query(settlePayerHereStatement(scope, id, row, columns));
  if (moved.length === 0)
    throw new LedgerError('internal', `${keyOf(payer)} is gone from ${to.name}`);
  const [here] = await query<ReportedRow>(reportedStatement(scope, id));
  const wrong = (Object.keys(reported) as (keyof ReportedRow)[]).filter(
    (name) => here?.[name] !== reported[name],
  );
  if (wrong.length > 0) {
    throw new LedgerError(
      'unproven_window',
      `what shard ${from.name} reports of ${keyOf(payer)} is not what its usage says ` +
        `(${wrong.join(', ')}): ` +
        'run verify and repair there, then move again; nothing has changed for the payer',
      { details: { payer: keyOf(payer), differs: wrong } },
    );
  }
}

/**
 * What would keep a payer from moving, before anything is done.
 * @throws LedgerError `invalid_request`, `unavailable`
 */
export async function requireMovable(
  source: Query,
  target: Query,
  payer: MovedPayer,
  to: string,
): Promise<void> {
  const { scope, id } = payer;
  const [row] = await source<PayerStateRow>(readStateStatement(scope, id));
  if (!row) return;
  if (
    (JSON.parse(row.payer) as { opening_microdollars_used: unknown }).opening_microdollars_used ===
    null
  ) {
    throw refused(
      'has a balance from before the ledger that is not derived yet: run repair --balances',
    );
  }
  const [archived] = await source<{ archived: string }>(
    readArchivedStatement(QUARTER_HOURLY, scope, id),
  );
  const days = await target<{ day: string }>(findUnfrozenStatement(archived?.archived ?? '[]'));
  if (days.length > 0) {
    throw refused(
      `has usage that was archived, of ${days.map(({ day }) => day).join(', ')}, and shard ${to} has not ` +
        'archived these days: archive it as far first',
    );
  }
  await requireHorizon(source, target, row.archived_days, to);
  if (row.shared_urls.length === 0) return;
  const found = await target<{ url: string }>(findSharedWebhooksStatement(row.shared_urls));
  const urls = new Set(found.map(({ url }) => url));
  if (row.shared_urls.every((url) => urls.has(url))) return;
  throw refused(
    `has alerts on their way to a webhook of everybody that shard ${to} does not have: set it there, ` +
      'or wait until they are delivered',
  );

  function refused(why: string): LedgerError {
    return new LedgerError('invalid_request', `${keyOf(payer)} ${why}`, {
      details: { field: 'payer' },
    });
  }
}

/** Ids of archived rows are known no more: an event of that time must be refused here as well. */
async function requireHorizon(
  source: Query,
  target: Query,
  archivedDays: string,
  to: string,
): Promise<void> {
  if (archivedDays === '[]') return;
  const statement = {
    name: 'shards_archive_horizon',
    text: `/* shards.archiveHorizon */
select (extract(epoch from s.archive_horizon) * 1000000)::text as horizon
from ledger_settings as s`,
    values: [],
  };
  const [[from], [here]] = await Promise.all([
    source<{ horizon: string | null }>(statement),
    target<{ horizon: string | null }>(statement),
  ]);
  if (Number(here?.horizon ?? Number.NEGATIVE_INFINITY) >= Number(from?.horizon ?? 0)) return;
  throw new LedgerError(
    'invalid_request',
    `shard ${to} is archived to an earlier day than where the payer is: archive it as far first`,
    { details: { field: 'to' } },
  );
}
