import type pg from 'pg';
import { addDays, daysBetween, readDay, todayIn } from '../days.js';
import { isStatementTimeout } from '../db/sqlstate.js';
import type { Statement } from '../db/statement.js';
import { LedgerError } from '../errors.js';
import { toExactInteger } from '../money.js';
import { describeDays } from '../rollup/readMode.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { type CommandDatabase, withMigratedDatabase } from './database.js';
import { alignTable, formatAmount, formatCount, shorten } from './output.js';
import { beginSnapshot } from './snapshot.js';
import { type TopFilter, type TopRow, topStatement, unprovenDaysStatement } from './top.sql.js';
import { wholeNumber } from './typedNumber.js';

const DEFAULT_DAYS = 30;
const MAX_DAYS = 31;
const MAX_LIMIT = 1_000;
const TIMEOUT_MS = 30_000;

interface TopOptions {
  from?: string;
  until?: string;
  limit: number;
}

export const registerTop: Register = (command, run) => {
  command
    .option('--from <day>', `first UTC day (default: ${DEFAULT_DAYS} days)`)
    .option('--until <day>', `last UTC day, inclusive, of at most ${MAX_DAYS} (default: today)`)
    .option('--limit <n>', 'payers that are listed', wholeNumber(1, MAX_LIMIT), 10)
    .action((options: TopOptions) => run((context) => top(context, readFilter(options))));
};

function readFilter(options: TopOptions): TopFilter {
  const until = readDay('--until', options.until ?? todayIn('UTC'));
  const from = readDay('--from', options.from ?? addDays(until, 1 - DEFAULT_DAYS));
  const days = daysBetween(from, until) + 1;
  if (days < 1) {
    throw new LedgerError('invalid_request', '--from lies after --until; swap them');
  }
  if (days > MAX_DAYS) {
    throw new LedgerError(
      'invalid_request',
      `--from and --until are ${days} days: all payers are summed up for at most ${MAX_DAYS}`,
    );
  }
  return { from, until, limit: options.limit };
}

async function top(context: CommandContext, filter: TopFilter): Promise<CommandStatus> {
  return withMigratedDatabase(context, async (database) => {
    const rows = await readTop(database, filter);
    const payers = rows.map(({ cost_microdollars, payers, total_microdollars, ...payer }) => ({
      ...payer,
      cost_microdollars: toExactInteger(cost_microdollars),
    }));
    const total = BigInt(rows[0]?.total_microdollars ?? 0);
    const count = Number(rows[0]?.payers ?? 0);
    const { from, until } = filter;
    context.output.answer(
      { from, until, payers, payer_count: count, total_cost_microdollars: toExactInteger(total) },
      rows.length === 0 ? 'no usage' : describe(filter, payers, { total, count }),
    );
    return 0;
  });
}

/** In one snapshot, of days that are proven (I10). @throws LedgerError `unproven_window`, `unavailable` */
async function readTop(database: CommandDatabase, filter: TopFilter): Promise<TopRow[]> {
  const client = await database.client();
  const settings = `set local statement_timeout = ${TIMEOUT_MS}; set local jit = off`;
  await beginSnapshot(client, database, settings);
  const proof = unprovenDaysStatement(filter);
  const [judged] = await ask<{ days: string[] }>(client, proof);
  const days = judged?.days ?? [];
  if (days.length > 0) {
    throw new LedgerError(
      'unproven_window',
      `not built and verified: ${describeDays(days)}; run \`backfill\`, then \`verify\``,
      { details: { unproven_days: days } },
    );
  }
  const rows = await ask<TopRow>(client, topStatement(filter));
  await client.query('commit');
  return rows;
}

async function ask<Row extends pg.QueryResultRow>(
  client: pg.Client,
  { text, values }: Statement,
): Promise<Row[]> {
  const { rows } = await client.query<Row>(text, [...values]).catch((error) => {
    if (!isStatementTimeout(error)) throw error;
    throw new LedgerError(
      'unavailable',
      `it takes more than ${TIMEOUT_MS / 1000} s: name fewer days, or run \`fold\` before`,
      { cause: error },
    );
  });
  return rows;
}

function describe(
  { from, until }: TopFilter,
  payers: readonly (Pick<TopRow, 'kilo_user_id' | 'organization_id' | 'name'> & {
    cost_microdollars: number | bigint;
  })[],
  { total, count }: { total: bigint; count: number },
): string {
  const rest = payers.reduce((left, each) => left - BigInt(each.cost_microdollars), total);
  const others = count - payers.length;
  const table = alignTable(
    [
      ['payer', 'of', 'name', 'cost'],
      ...payers.map((each) => [
        shorten(each.organization_id ?? each.kilo_user_id ?? ''),
        each.organization_id === null ? 'user' : 'organization',
        shorten(each.name ?? ''),
        formatAmount(each.cost_microdollars),
      ]),
      ...(others > 0 ? [[`${formatCount(others)} more`, '', '', formatAmount(rest)]] : []),
      ['total', '', '', formatAmount(total)],
    ],
    [3],
  );
  return `${table}\n${from} to ${until}, UTC`;
}
