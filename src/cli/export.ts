import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { Option } from 'commander';
import type pg from 'pg';
import { readDay } from '../days.js';
import { LedgerError } from '../errors.js';
import { userExistsStatement } from '../rollup/explain.sql.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withDatabase } from './database.js';
import {
  csvFormat,
  type ExportFormat,
  type ExportRow,
  type ExportTotal,
  jsonFormat,
  jsonlFormat,
  totalOf,
} from './exportFormats.js';
import {
  CREDIT_SHAPE,
  DAILY_SHAPE,
  type ExportFilter,
  exportCreditsStatement,
  exportDailyStatement,
  exportUsageStatement,
  USAGE_SHAPE,
} from './exportRows.sql.js';
import { formatAmount, formatCount } from './output.js';

/** Rows in memory at once. */
const FETCH_ROWS = 1000;

const WHAT = {
  usage: [USAGE_SHAPE, exportUsageStatement],
  daily: [DAILY_SHAPE, exportDailyStatement],
  credits: [CREDIT_SHAPE, exportCreditsStatement],
} as const;

interface ExportOptions {
  from: string;
  until: string;
  format: 'csv' | 'jsonl';
  daily?: true;
  credits?: true;
  user?: string;
  out?: string;
  total: boolean;
}

export const registerExport: Register = (program, run) => {
  program
    .command('export')
    .description('usage rows, daily totals or credits from one snapshot, with a total')
    .requiredOption('--from <day>', 'first UTC day (required)')
    .requiredOption('--until <day>', 'last UTC day, inclusive (required)')
    .addOption(new Option('--format <format>').choices(['csv', 'jsonl']).default('csv'))
    .option('--daily', 'daily totals by user and organization')
    .option('--credits', 'credit grants, what was taken back, and what expired')
    .option('--user <id>', 'this user only')
    .option('--out <file>', 'write to a file, not to stdout')
    .option('--no-total', 'leave out the total line, so that `import` reads the file')
    .action((options: ExportOptions) => run((context) => exportCommand(context, options)));
};

async function exportCommand(
  context: CommandContext,
  options: ExportOptions,
): Promise<CommandStatus> {
  const filter: ExportFilter = {
    from: readDay('--from', options.from),
    until: readDay('--until', options.until),
    kiloUserId: options.user ?? null,
  };
  if (filter.from > filter.until) {
    throw new LedgerError('invalid_request', '--from lies after --until; swap them');
  }
  if (options.daily && options.credits) {
    throw new LedgerError('invalid_request', '--daily and --credits are two exports: choose one');
  }
  const { output } = context;
  const isDocument = output.json && options.out === undefined;
  const [shape, toStatement] =
    WHAT[options.credits ? 'credits' : options.daily ? 'daily' : 'usage'];
  const build = isDocument ? jsonFormat : options.format === 'csv' ? csvFormat : jsonlFormat;

  return withDatabase(context, async (database) => {
    const client = await database.client();
    if (filter.kiloUserId !== null) await requireUser(client, filter.kiloUserId);
    const file = options.out === undefined ? null : createWriteStream(options.out, { flags: 'w' });
    // Without this an unwritable file would be an uncaught error before the first write.
    if (file !== null) await once(file, 'open').catch((error) => failOnFile(options.out, error));
    const target = file ?? output.streams.stdout;
    const total = await exportRows(client, toStatement(filter), build(shape), {
      target,
      hasTotal: options.total || isDocument,
    });
    if (file !== null) {
      file.end();
      await finished(file);
      output.answer(
        { file: options.out, ...totalOf(total) },
        `${formatCount(total.rows)} rows, ${formatAmount(total.costMicrodollars)}`,
      );
    }
    return 0;
  });
}

/** @throws LedgerError `unknown_user`: a typing error must not look like an empty export */
async function requireUser(client: pg.Client, kiloUserId: string): Promise<void> {
  const { text, values } = userExistsStatement(kiloUserId);
  const { rows } = await client.query<{ exists: boolean }>(text, values);
  if (rows[0]?.exists) return;
  throw new LedgerError('unknown_user', 'there is no user with this id', {
    details: { field: 'user' },
  });
}

/** Streams rows through a cursor of one repeatable-read snapshot; waits for a slow reader. */
async function exportRows(
  client: pg.Client,
  statement: { text: string; values: unknown[] },
  format: ExportFormat,
  { target, hasTotal }: { target: NodeJS.WritableStream; hasTotal: boolean },
): Promise<ExportTotal> {
  const total: ExportTotal = { rows: 0, costMicrodollars: 0n };
  await client.query('begin isolation level repeatable read, read only');
  // No limit on idleness: whoever reads the output sets the pace.
  await client.query('set local idle_in_transaction_session_timeout = 0');
  await client.query('set local statement_timeout = 0');
  // Every row is wanted, not the first few.
  await client.query('set local cursor_tuple_fraction = 1');
  await client.query(`declare export no scroll cursor for ${statement.text}`, statement.values);
  await write(target, format.head());
  for (;;) {
    const { rows } = await client.query<ExportRow>(`fetch forward ${FETCH_ROWS} from export`);
    if (rows.length === 0) break;
    let text = '';
    for (const row of rows) {
      text += format.row(row, total.rows);
      total.rows += 1;
      total.costMicrodollars += BigInt(String(row[format.costColumn] ?? 0));
    }
    await write(target, text);
  }
  await client.query('commit');
  if (hasTotal) await write(target, format.end(total));
  return total;
}

async function write(target: NodeJS.WritableStream, text: string): Promise<void> {
  if (text !== '' && !target.write(text)) await once(target, 'drain');
}

function failOnFile(path: string | undefined, error: NodeJS.ErrnoException): never {
  throw new LedgerError('invalid_request', `cannot write ${path} (${error.code})`, {
    details: { file: path },
  });
}
