import { dirname } from 'node:path';
import { Option } from 'commander';
import type pg from 'pg';
import { requireAccounts } from '../accounts/requireAccounts.js';
import { readDay } from '../days.js';
import { queryOn } from '../db/query.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { describeDays } from '../rollup/readMode.js';
import { requireUser } from '../rollup/verify.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { ArchivedDays, requireArchive } from './exportArchive.js';
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
import { type ExportTarget, NOT_WHOLE, toFile, toOutput } from './exportTarget.js';
import { formatAmount, formatCount } from './output.js';
import { beginSnapshot } from './snapshot.js';

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
  org?: string;
  out?: string;
  overwrite?: true;
  archive?: string;
  total: boolean;
}

export const registerExport: Register = (command, run) => {
  command
    .requiredOption('--from <day>', 'first UTC day (required)')
    .requiredOption('--until <day>', 'last UTC day, inclusive (required)')
    .addOption(new Option('--format <format>').choices(['csv', 'jsonl']).default('csv'))
    .option('--daily', 'daily totals by user and organization')
    .option('--credits', 'credit grants, what was taken back, and what expired')
    .option('--user <id>', 'what this user used, whoever pays')
    .option('--org <id>', 'what this organization paid for; with --user, of this member alone')
    .option('--archive <dir>', 'read archived days from these files; without it they are missing')
    .option('--out <file>', 'write to a file, not to stdout')
    .option('--overwrite', 'with --out: replace a file that is there')
    .option('--no-total', 'leave out the total line, so that `import` reads the file')
    .action((options: ExportOptions) => run((context) => exportCommand(context, options)));
};

async function exportCommand(
  context: CommandContext,
  options: ExportOptions,
): Promise<CommandStatus> {
  const { output, interruption } = context;
  if (options.daily && options.credits) {
    throw new LedgerError('invalid_request', '--daily and --credits are two exports: choose one');
  }
  const filter = readFilter(options);
  const isDocument = output.json && options.out === undefined;
  const what = options.credits ? 'credits' : options.daily ? 'daily' : 'usage';
  const [shape, toStatement] = WHAT[what];
  const build = isDocument ? jsonFormat : options.format === 'csv' ? csvFormat : jsonlFormat;
  const format = build(shape);
  interruption.remark =
    options.out === undefined
      ? NOT_WHOLE
      : `nothing is in ${options.out} that was not there before; run it again`;
  if (options.archive !== undefined) {
    // A shard that nothing was archived of has no directory in it.
    await requireArchive(context.shard === null ? options.archive : dirname(options.archive));
  }

  return withMigratedDatabase(context, async (database) => {
    const client = await database.client();
    if (filter.kiloUserId !== null)
      await requireUser({ query: queryOn(client, false) }, filter.kiloUserId);
    const { organizationId } = filter;
    if (organizationId !== null)
      await requireAccounts(database.pool(), { organization_id: organizationId });
    await beginSnapshot(client, database);
    // No limit on idleness: whoever reads the output sets the pace.
    await client.query('set local idle_in_transaction_session_timeout = 0');
    await client.query('set local statement_timeout = 0');
    // Every row is wanted, not the first few.
    await client.query('set local cursor_tuple_fraction = 1');
    const archived = what === 'usage' ? await ArchivedDays.find(client, filter) : null;
    const pages = pagesOf(client, toStatement(filter), archived, options.archive);
    const { out } = options;
    const target =
      out === undefined
        ? toOutput(output, format)
        : await toFile(out, interruption, { isReplaced: options.overwrite ?? false });
    let total: ExportTotal;
    try {
      total = await exportRows(pages, { format, write: target.write });
      total.missingDays = archived?.missing ?? [];
      if (options.total || isDocument) await target.write(format.end(total));
      await target.close();
    } catch (error) {
      target.abandon();
      throw error;
    }
    await client.query('commit');
    if (options.out !== undefined) {
      output.answer(
        { file: options.out, ...totalOf(total) },
        `${formatCount(total.rows)} rows, ${formatAmount(total.costMicrodollars)}`,
      );
    }
    if (total.missingDays.length === 0) return 0;
    output.note(describeMissing(total.missingDays, options.archive));
    return 1;
  });
}

function readFilter(options: ExportOptions): ExportFilter {
  const from = readDay('--from', options.from);
  const until = readDay('--until', options.until);
  if (from > until) {
    throw new LedgerError('invalid_request', '--from lies after --until; swap them');
  }
  if ((options.daily || options.credits) && options.archive !== undefined) {
    throw new LedgerError(
      'invalid_request',
      `--archive goes with rows: ${options.daily ? 'daily totals' : 'credits'} are whole`,
    );
  }
  return {
    from,
    until,
    kiloUserId: options.user ?? null,
    organizationId: options.org === undefined ? null : readUuid('org', options.org),
  };
}

function describeMissing(days: readonly string[], archive: string | undefined): string {
  const what = `usage of ${describeDays(days)} was archived, and is not in this export`;
  if (archive === undefined) return `${what}; name its directory with --archive <dir>`;
  return `${what}: the files in ${archive} do not hold all of it`;
}

/** What the archive's files have, then what the table has. */
async function* pagesOf(
  client: pg.Client,
  statement: { text: string; values: unknown[] },
  archived: ArchivedDays | null,
  directory: string | undefined,
): AsyncGenerator<readonly ExportRow[]> {
  if (archived !== null && directory !== undefined) yield* archived.pages(directory);
  await client.query(`declare export no scroll cursor for ${statement.text}`, statement.values);
  for (;;) {
    const { rows } = await client.query<ExportRow>(`fetch forward ${FETCH_ROWS} from export`);
    if (rows.length === 0) return;
    yield rows;
  }
}

async function exportRows(
  pages: AsyncIterable<readonly ExportRow[]>,
  { format, write }: { format: ExportFormat; write: ExportTarget['write'] },
): Promise<ExportTotal> {
  const total: ExportTotal = { rows: 0, costMicrodollars: 0n };
  await write(format.head());
  for await (const rows of pages) {
    let text = '';
    for (const row of rows) {
      text += format.row(row, total.rows);
      total.rows += 1;
      total.costMicrodollars += BigInt(String(row[format.costColumn] ?? 0));
    }
    await write(text);
  }
  return total;
}
